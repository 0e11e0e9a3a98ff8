/* A caller in C, written from ipc/PROTOCOL.md alone: hello, a typed question with a streamed answer, and a cancel.
 *
 *   timmy FOLDER ask QUESTION      prints the answer as it comes, then how the request ended
 *   timmy FOLDER cancel QUESTION   the same, but gives the question up after the first words
 *
 * FOLDER has the sockets: $XDG_RUNTIME_DIR/timmy, else /tmp/timmy-UID; `timmy doctor` prints it.
 * cc -o timmy timmy.c -lzmq -lmsgpackc     (Debian: libzmq3-dev libmsgpack-dev)
 * Exit status: 0 the request ended with a result or as it was cancelled, 1 with an error, 2 wrong usage.
 */
#define _DEFAULT_SOURCE
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zmq.h>

enum { VERSION = 1, ID = 16, WINDOW = 256, PING_MS = 1000, WAIT_MS = 10000, TTL_MS = 60000 };

typedef struct {
    void *socket;
    uint64_t epoch; /* of the last request: each has a higher one than all before it */
} Connection;

typedef struct {
    unsigned char rid[ID];
    uint64_t epoch, seq; /* of what is sent */
    uint64_t due;        /* the number that the daemon's next message must have */
} Request;

typedef struct {
    msgpack_unpacked holder;
    zmq_msg_t frame;
    char type[65];
    const unsigned char *rid;
    uint64_t seq, epoch;
    msgpack_object body;
} Message;

static void fail(const char *what) {
    fprintf(stderr, "timmy: %s\n", what);
    exit(1);
}

/* --- msgpack --- */

static void text(msgpack_packer *to, const char *value) {
    msgpack_pack_str(to, strlen(value));
    msgpack_pack_str_body(to, value, strlen(value));
}

static void bytes(msgpack_packer *to, const unsigned char *value, size_t size) {
    msgpack_pack_bin(to, size);
    msgpack_pack_bin_body(to, value, size);
}

static const msgpack_object *field(const msgpack_object *map, const char *name) {
    if (map->type != MSGPACK_OBJECT_MAP) return NULL;
    for (uint32_t at = 0; at < map->via.map.size; at++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[at];
        if (pair->key.type == MSGPACK_OBJECT_STR && pair->key.via.str.size == strlen(name) &&
            memcmp(pair->key.via.str.ptr, name, strlen(name)) == 0)
            return &pair->val;
    }
    return NULL;
}

static uint64_t number(const msgpack_object *map, const char *name) {
    const msgpack_object *found = field(map, name);
    if (found == NULL || found->type != MSGPACK_OBJECT_POSITIVE_INTEGER) fail("a header lacks a number");
    return found->via.u64;
}

static void print_field(const msgpack_object *map, const char *name) {
    const msgpack_object *found = field(map, name);
    if (found != NULL && found->type == MSGPACK_OBJECT_STR) fwrite(found->via.str.ptr, 1, found->via.str.size, stdout);
}

/* --- sending --- */

static void begin(msgpack_packer *to, const char *type, Request *request, uint64_t ttl_ms) {
    msgpack_pack_map(to, 7);
    text(to, "v"), msgpack_pack_uint64(to, VERSION);
    text(to, "type"), text(to, type);
    text(to, "rid"), bytes(to, request->rid, ID);
    text(to, "seq"), msgpack_pack_uint64(to, request->seq++);
    text(to, "epoch"), msgpack_pack_uint64(to, request->epoch);
    text(to, "ttl_ms"), msgpack_pack_uint64(to, ttl_ms);
    text(to, "body"); /* the caller goes on */
}

static void leave(Connection *connection, msgpack_sbuffer *buffer) {
    if (zmq_send(connection->socket, buffer->data, buffer->size, 0) < 0) fail("nobody takes it: does dialog run in this folder?");
    msgpack_sbuffer_destroy(buffer);
}

static Request new_request(Connection *connection) {
    Request request = {.epoch = ++connection->epoch};
    if (getrandom(request.rid, ID, 0) != ID) fail("no random numbers");
    return request;
}

#define MESSAGE(type, request, ttl_ms, fields)                                                                        \
    msgpack_sbuffer buffer;                                                                                           \
    msgpack_packer to;                                                                                                \
    msgpack_sbuffer_init(&buffer);                                                                                    \
    msgpack_packer_init(&to, &buffer, msgpack_sbuffer_write);                                                         \
    begin(&to, type, request, ttl_ms);                                                                                \
    msgpack_pack_map(&to, fields)

static Request hello(Connection *connection) {
    static const char *features[] = {"credit", "epoch", "payload"};
    unsigned char boot[ID];
    Request request = new_request(connection);
    if (getrandom(boot, ID, 0) != ID) fail("no random numbers");
    MESSAGE("hello", &request, WAIT_MS, 6);
    text(&to, "name"), text(&to, "c");
    text(&to, "proto_min"), msgpack_pack_int(&to, VERSION);
    text(&to, "proto_max"), msgpack_pack_int(&to, VERSION);
    text(&to, "features"), msgpack_pack_array(&to, 3);
    for (int at = 0; at < 3; at++) text(&to, features[at]);
    text(&to, "boot_id"), bytes(&to, boot, ID);
    text(&to, "pid"), msgpack_pack_int(&to, getpid());
    leave(connection, &buffer);
    return request;
}

static Request ask(Connection *connection, const char *question) {
    Request request = new_request(connection);
    MESSAGE("ask", &request, TTL_MS, 3);
    text(&to, "conversation"), text(&to, "c");
    text(&to, "text"), text(&to, question);
    text(&to, "speak"), msgpack_pack_false(&to);
    leave(connection, &buffer);
    return request;
}

static void ping(Connection *connection) {
    Request request = new_request(connection);
    MESSAGE("ping", &request, WAIT_MS, 0);
    leave(connection, &buffer);
}

static void cancel(Connection *connection, Request *request) {
    MESSAGE("cancel", request, 0, 1);
    text(&to, "reason"), text(&to, "enough");
    leave(connection, &buffer);
}

static void grant(Connection *connection, Request *request, uint64_t count) {
    MESSAGE("credit_grant", request, 0, 1);
    text(&to, "n"), msgpack_pack_uint64(&to, count);
    leave(connection, &buffer);
}

/* --- receiving --- */

static void forget(Message *message) {
    msgpack_unpacked_destroy(&message->holder);
    zmq_msg_close(&message->frame);
}

/* The next message of `request`; of others (the answers to pings) none is returned. Pings while nothing comes. */
static Message next(Connection *connection, Request *request) {
    for (;;) {
        zmq_pollitem_t item = {.socket = connection->socket, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, PING_MS) < 0) fail("interrupted");
        if (!(item.revents & ZMQ_POLLIN)) {
            ping(connection);
            continue;
        }
        Message message;
        zmq_msg_init(&message.frame);
        if (zmq_msg_recv(&message.frame, connection->socket, 0) < 0) fail("the daemon cannot be read from");
        if (zmq_msg_more(&message.frame)) fail("a payload came, and none was asked for");
        msgpack_unpacked_init(&message.holder);
        if (msgpack_unpack_next(&message.holder, zmq_msg_data(&message.frame), zmq_msg_size(&message.frame), NULL) !=
            MSGPACK_UNPACK_SUCCESS)
            fail("the header cannot be read");
        const msgpack_object *header = &message.holder.data;
        const msgpack_object *type = field(header, "type"), *rid = field(header, "rid"), *body = field(header, "body");
        if (number(header, "v") != VERSION) fail("another version");
        if (!type || type->type != MSGPACK_OBJECT_STR || type->via.str.size > 64) fail("a header lacks its type");
        if (!rid || rid->type != MSGPACK_OBJECT_BIN || rid->via.bin.size != ID || !body) fail("a header is not whole");
        snprintf(message.type, sizeof message.type, "%.*s", (int)type->via.str.size, type->via.str.ptr);
        message.seq = number(header, "seq"), message.epoch = number(header, "epoch"), message.body = *body;
        if (memcmp(rid->via.bin.ptr, request->rid, ID) != 0) {
            forget(&message);
            continue;
        }
        if (message.epoch != request->epoch || message.seq != request->due++) fail("a message is missing");
        return message;
    }
}

static int is(const Message *message, const char *type) { return strcmp(message->type, type) == 0; }

static int ended(Message *message) {
    int status = 0;
    if (is(message, "error")) {
        status = 1;
        printf("[error: ");
        print_field(&message->body, "detail");
        printf("]\n");
    } else
        printf("[%s]\n", message->type);
    forget(message);
    return status;
}

static int converse(Connection *connection, const char *question, int give_up) {
    Request request = ask(connection, question);
    uint64_t taken = 0;
    for (;;) {
        Message message = next(connection, &request);
        if (!is(&message, "delta")) {
            if (is(&message, "credit_grant")) {
                forget(&message);
                continue;
            }
            printf("\n");
            return ended(&message);
        }
        if (!give_up) print_field(&message.body, "text");
        forget(&message);
        fflush(stdout);
        if (++taken * 2 >= WINDOW) grant(connection, &request, taken), taken = 0;
        if (give_up == 1) cancel(connection, &request), give_up = 2;
    }
}

int main(int count, char **words) {
    if (count != 4 || (strcmp(words[2], "ask") && strcmp(words[2], "cancel"))) {
        fprintf(stderr, "usage: timmy FOLDER ask|cancel QUESTION\n");
        return 2;
    }
    char where[256];
    int linger = 250, immediate = 1;
    void *context = zmq_ctx_new();
    Connection connection = {.socket = zmq_socket(context, ZMQ_DEALER)};
    snprintf(where, sizeof where, "ipc://%s/dialog.sock", words[1]);
    zmq_setsockopt(connection.socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(connection.socket, ZMQ_SNDTIMEO, &(int){WAIT_MS}, sizeof(int));
    zmq_setsockopt(connection.socket, ZMQ_IMMEDIATE, &immediate, sizeof immediate);
    if (zmq_connect(connection.socket, where) < 0) fail("the folder's path is too long");
    Request greeting = hello(&connection);
    Message welcome = next(&connection, &greeting);
    if (!is(&welcome, "welcome")) return ended(&welcome);
    forget(&welcome);
    int status = converse(&connection, words[3], strcmp(words[2], "cancel") == 0);
    zmq_close(connection.socket);
    zmq_ctx_term(context);
    return status;
}
