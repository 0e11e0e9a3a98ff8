"""Every limit of the wire, with its reason. PROTOCOL.md lists them all (a test compares the two)."""

from __future__ import annotations

PROTOCOL_VERSION = 1
"""Version this code speaks; `hello` carries the range."""

HEADER_MAX_BYTES = 64 * 1024
"""The longest prompt (MESSAGES_MAX messages within the model's context) fits twice; larger is a mistake."""

PAYLOAD_MAX_BYTES = 64 * 1024
"""1.3 s of 16-bit mono PCM at 24 kHz: audio goes in 20 ms frames, so nothing legitimate comes near."""

FRAMES_MAX = 2
"""Header and one payload. ZMQ_MAXMSGSIZE counts per frame, so parts are counted while receiving."""

RID_BYTES = 16
"""The size of a W3C trace-id, so that an exported trace keeps the request's own id."""

TEXT_MAX_CHARS = 8192
"""Ten minutes of speech; a clause, an answer and a memory are far below."""

NAME_MAX_CHARS = 64
"""Conversation, daemon, engine and feature names."""

PATH_MAX_CHARS = 512
"""Model names may be paths."""

LIST_MAX_ITEMS = 200
"""Memories in one reply, ids in one `forget`: keeps a reply inside HEADER_MAX_BYTES together with PAGE_MAX_CHARS."""

PAGE_MAX_CHARS = 12_000
"""Text in one page of memories: at four bytes a character still inside HEADER_MAX_BYTES."""

MESSAGES_MAX = 256
"""Messages of one prompt: 100 turns of history and the notes."""

FEATURES_MAX = 32
"""Features named in one `hello`."""

TTL_MAX_MS = 24 * 3600 * 1000
"""A day. `ttl_ms` 0 stands for a request that lives as long as its peer (a microphone, a follower)."""

SEQ_MAX = 2**53
"""The largest integer that every language keeps exact."""

CREDIT_AUDIO = 10
"""Items a sender of audio may have under way before the first grant: 10 x 20 ms = 200 ms."""

CREDIT_EVENTS = 256
"""Items a sender of anything else may have under way: a whole answer in tokens without a grant."""

CREDIT_MAX = 4096
"""No receiver may grant more than this in all; a sum above it is an attack or a bug."""

REST_MAX_MS = 2000
"""A model that stands still for longer would seem to hang."""

OPEN_REQUESTS_PER_PEER = 64
"""dialog, the busiest peer, has fewer than ten open; beyond 64 the answer is `over_quota`."""

REMEMBERED_RIDS = 1024
"""Ended requests remembered per peer, so that what crosses a terminal on the wire is known to be late."""

BACKLOG_MAX_MESSAGES = 16 * OPEN_REQUESTS_PER_PEER
"""Messages of a peer that nobody has looked at yet: 16 for each request that it may have open. A microphone has 10,
dialog fewer than 50. Beyond it, as beyond each quota of a peer, the peer is disconnected."""

BACKLOG_MAX_MESSAGES_OF_ALL = 4 * BACKLOG_MAX_MESSAGES
"""Of all peers together; beyond it the one that has the most waiting goes. 256 microphones have 2,560."""

BACKLOG_MAX_BYTES = 16 * 1024 * 1024
"""The same in bytes: 64 of the longest prompts are 4 MiB, the sound of 64 microphones is 1 MiB."""

BACKLOG_MAX_BYTES_OF_ALL = 4 * BACKLOG_MAX_BYTES
"""The same in bytes. 256 microphones have 4 MiB."""

UNREAD_MAX_MESSAGES = 2000
"""What a peer was sent and has not read: seven whole windows of CREDIT_EVENTS. dialog has two such streams open."""

BYTES_IN_MAX_PER_S = 64 * 1024 * 1024
"""A microphone sends 40 kB/s, and 4 MB/s when it is replayed at a hundred times its speed; 20,000 requests in a second,
more than a daemon can answer, are 5 MB."""

BYTES_OUT_MAX_PER_S = 64 * 1024 * 1024
"""A loudspeaker gets 60 kB/s; who records a daemon that answers 20,000 requests in a second gets 16 MB/s, and once
RECORD_BACKLOG_MAX_BYTES more."""

CREDIT_MAX_PER_PEER = 16 * CREDIT_MAX
"""Granted at once in all requests of a peer: 64 whole windows of CREDIT_EVENTS are a quarter of that."""

BAD_MESSAGES_MAX = 100
"""In BAD_MESSAGES_PERIOD_S. A caller of this release sends none, one of another release those that are not known."""

BAD_MESSAGES_PERIOD_S = 10.0
"""So a caller that asks in vain once a second may do so for ever."""

COMPLAINT_INTERVAL_S = 1.0
"""What a peer does wrong is in the log at first; then a line tells how often, and not more often than this."""

PEERS_MAX = 256
"""Peers a daemon keeps an account of."""

RECORDERS_MAX = 4
"""Recordings of one daemon at a time: each keeps what its reader has not read yet."""

RECORD_BACKLOG_MAX_BYTES = 8 * 1024 * 1024
"""A minute of sound both ways: a reader further behind loses its recording, and the daemon waits for nobody."""

HANDSHAKE_MS = 1000
"""A peer on this machine that connects and does not shake hands in time is thrown out: it takes microseconds."""

OBSERVERS_MAX = 32
"""Connections of observers on this machine, those included that have not shaken hands yet; others wait until one goes.
A `timmy tap` is one."""

OBSERVATION_BACKLOG_MAX = 500
"""Headers that wait for an observer before the next ones are lost to it."""

OBSERVATION_BACKLOG_MAX_BYTES = 4 * 1024 * 1024
"""The same in bytes, of an observer on this machine: 64 of the largest headers. OBSERVERS_MAX times that is 128 MiB."""

SUBSCRIPTION_MAX_BYTES = 256
"""A topic is a daemon's name and a type; a handshake is far below. An observer that says more is disconnected."""

SUBSCRIPTIONS_MAX = 1024
"""Subscriptions in force, and words in a second, of an observer on this machine, and of all viewers on a network
together: beyond that it is disconnected, and they all are."""

SUBSCRIPTIONS_MAX_OF_ALL = 4 * SUBSCRIPTIONS_MAX
"""Of all observers on this machine together; beyond it the one that has the most goes."""

REOPEN_S = 0.2
"""How long no new observer is let in after one was disconnected, or when descriptors are lacking; so who comes again at
once does not keep a daemon busy."""

PING_INTERVAL_S = 0.5
"""Application ping while requests are open: it proves the loop."""

IDLE_PING_INTERVAL_S = 1.6
"""The same while nothing is open: keeps the account of a client at its server alive."""

PEER_SILENCE_S = 1.5
"""No message for this long although a ping is out: the peer hangs. Leaves 0.5 s of the 2 s for an apology."""

FAR_SILENCE_S = 4.0
"""The same over a network: two losses in a row hold up a link of 400 ms for 2.4 s. One that is cut ends ZMTP, after
3 s."""

CLIENT_SILENCE_S = 5.0
"""A server drops the requests of a client that has been silent this long: ten missed pings."""

CONNECT_TIMEOUT_S = 2.0
"""How long a request waits for a peer that is not there (yet), if its own time allows."""

UNIX_PATH_MAX_BYTES = 107
"""sun_path of Linux less its terminator (unix(7))."""

LEASE_MAX_MS = 30_000
"""The longest time a dead dialog can leave the microphone muted."""

FAR_HANDSHAKE_MS = 5000
"""A peer over a network has this long to prove its key: four round trips of a bad link."""

CREDIT_FAR = 100
"""Items of audio that may be under way over a network: 2 s, so that a link of 400 ms there and back can stall for a
moment. What cannot be sent by then is lost, and not heard late."""

FAR_EXTRA_BYTES = 512
"""What encryption adds to a frame (33 bytes), and its longest handshake command to an observer's subscription."""

FAR_CONNECTIONS_MAX = 128
"""Connections from a network at one socket, those included that have proved no key yet: no house has as many rooms."""

FAR_CONNECT_MS = 1000
"""A connection over a network that takes longer is tried anew: after a cut link it is there within 3 s."""

DOOR_RETRY_S = 2.0
"""How often a daemon tries to listen at an address that this machine does not have yet."""

OBSERVER_CHECK_S = 1.0
"""How soon an observer whose key is revoked is cut off: it sends nothing that could be refused."""
