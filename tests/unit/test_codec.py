"""Messages to frames and back: round trips, bounds, and garbage."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as shape
from msgspec import structs

from ipc import limits
from ipc.codec import Message, decode, encode
from ipc.errors import Code, LocalProtocolError, RemoteProtocolError
from ipc.messages import REGISTRY, Audio, Body, Delta, Generate, Ping, Recalled, Request
from tests.protocol.shapes import CASES, LEAST, USUAL, bodies, example, fields, messages, on_bounds, over_bounds, sample

_types = pytest.mark.parametrize("name", sorted(REGISTRY))
RID = bytes(range(16))


def _plain(message: Message, **changed: Any) -> list[bytes]:
    """The frames of `message` as plain msgpack makes them, with header fields changed."""
    plain = msgpack.unpackb(encode(message)[0])
    return [msgpack.packb({**plain, **changed}), *([message.payload] if message.payload else [])]


# --- round trips ---------------------------------------------------------------------------------------


@_types
@given(data=st.data())
def test_every_type_comes_back_as_it_went(name: str, data: st.DataObject) -> None:
    message = structs.replace(example(name, USUAL), body=data.draw(bodies(REGISTRY[name])))
    assert decode(encode(message)) == message


@given(messages())
def test_every_header_comes_back_as_it_went(message: Message) -> None:
    frames = encode(message)
    assert decode(frames) == message
    assert len(frames) == (2 if message.payload else 1)
    assert len(frames[0]) <= limits.HEADER_MAX_BYTES


@_types
def test_fields_of_a_newer_version_are_ignored(name: str) -> None:
    message = example(name, USUAL)
    body = msgpack.unpackb(encode(message)[0])["body"]
    assert decode(_plain(message, body={**body, "new": [1, {"a": b"b"}]}, other=1)) == message


@_types
def test_fields_with_a_default_may_be_missing_others_not(name: str) -> None:
    message = example(name, USUAL)
    body = msgpack.unpackb(encode(message)[0])["body"]
    for field in fields(REGISTRY[name]):
        rest = {key: value for key, value in body.items() if key != field.name}
        if field.required:
            with pytest.raises(RemoteProtocolError, match=field.name):
                decode(_plain(message, body=rest))
        else:
            assert getattr(decode(_plain(message, body=rest)).body, field.name) == field.default


# --- bounds --------------------------------------------------------------------------------------------


@_types
def test_values_on_their_bounds_pass(name: str) -> None:
    message = example(name, LEAST)
    for field in fields(REGISTRY[name]):
        for value in on_bounds(field.type):
            at_edge = structs.replace(message, body=structs.replace(message.body, **{field.name: value}))
            assert decode(encode(at_edge)) == at_edge


@_types
def test_values_over_their_bounds_are_refused_on_both_sides(name: str) -> None:
    message = example(name, USUAL)
    body = msgpack.unpackb(encode(message)[0])["body"]
    for field in fields(REGISTRY[name]):
        for wrong in over_bounds(field.type):
            with pytest.raises(RemoteProtocolError, match=f"{name} cannot be read") as caught:
                decode(_plain(message, body={**body, field.name: _packable(wrong)}))
            assert (caught.value.code, caught.value.rid) == (Code.BAD_MESSAGE, message.rid)
            with pytest.raises(LocalProtocolError, match=f"{name} cannot be sent"):
                encode(structs.replace(message, body=structs.replace(message.body, **{field.name: wrong})))


def _packable(value: Any) -> Any:
    """`value` as plain msgpack can write it: nested structs as maps."""
    return msgpack.unpackb(msgpack.packb(value, default=structs.asdict), strict_map_key=False)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *[("v", value) for value in (0, -1, 256, "1", None)],
        *[("type", value) for value in (1, None, "x" * 65, b"ping")],
        *[("rid", value) for value in (b"", RID[:15], RID + b"x", "x" * 16, None)],
        *[("seq", value) for value in (-1, limits.SEQ_MAX + 1, 0.5, None)],
        *[("epoch", value) for value in (-1, limits.SEQ_MAX + 1, "1")],
        *[("ttl_ms", value) for value in (-1, limits.TTL_MAX_MS + 1, 1.5)],
    ],
)
def test_a_header_out_of_bounds_is_refused(field: str, wrong: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="header cannot be read") as caught:
        decode(_plain(example("ping", USUAL), **{field: wrong}))
    assert caught.value.rid == b""


@pytest.mark.parametrize("field", ["v", "type", "rid", "seq", "epoch", "ttl_ms", "body"])
def test_a_header_without_one_of_its_fields_is_refused(field: str) -> None:
    plain = msgpack.unpackb(encode(example("ping", USUAL))[0])
    del plain[field]
    with pytest.raises(RemoteProtocolError, match=field):
        decode([msgpack.packb(plain)])


@pytest.mark.parametrize("changes", [{"rid": b"short"}, {"seq": -1}, {"ttl_ms": limits.TTL_MAX_MS + 1}])
def test_a_header_out_of_bounds_is_not_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="ping cannot be sent"):
        encode(structs.replace(example("ping", USUAL), **changes))


def test_text_that_is_no_unicode_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="delta cannot be sent"):
        encode(Message(RID, 0, 1, 0, Delta(text="\ud800")))


def test_integers_beyond_64_bits_are_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="audio cannot be sent"):
        encode(Message(RID, 0, 1, 0, Audio(t_ns=2**70)))


def test_only_messages_of_the_wire_are_sent() -> None:
    class Stray(Request, frozen=True):
        pass

    with pytest.raises(LocalProtocolError, match="Stray is not a message"):
        encode(Message(RID, 0, 1, 0, Stray()))


def test_a_message_over_the_size_of_a_header_is_neither_sent_nor_read() -> None:
    memory = sample(fields(Recalled)[0].type.item_type, USUAL)  # type: ignore[attr-defined]
    big = Recalled(memories=[structs.replace(memory, text="x" * 8000)] * 9, received_ns=0, finished_ns=0)
    with pytest.raises(LocalProtocolError, match="over the limit of 65536"):
        encode(Message(RID, 0, 1, 0, big))
    with pytest.raises(RemoteProtocolError, match="a frame is over its limit"):
        decode([b"x" * (limits.HEADER_MAX_BYTES + 1)])


def test_a_payload_over_its_size_is_neither_sent_nor_read() -> None:
    whole = Message(RID, 0, 1, 0, Audio(t_ns=1), bytes(limits.PAYLOAD_MAX_BYTES))
    frames = encode(whole)
    assert decode(frames) == whole
    with pytest.raises(LocalProtocolError, match="payload of 65537 bytes"):
        encode(structs.replace(whole, payload=whole.payload + b"x"))
    with pytest.raises(RemoteProtocolError, match="a frame is over its limit"):
        decode([frames[0], frames[1] + b"x"])


def test_the_longest_prompt_fits() -> None:
    """`limits` promises that the messages of a prompt within the model's context fit."""
    turn = sample(fields(Generate)[0].type.item_type, USUAL)  # type: ignore[attr-defined]
    prompt = [structs.replace(turn, content="x" * 180)] * limits.MESSAGES_MAX
    encode(Message(RID, 0, 1, 0, Generate(messages=prompt, max_tokens=100)))


# --- garbage either parses or raises RemoteProtocolError -----------------------------------------------


def _survives(frames: list[bytes]) -> None:
    try:
        message = decode(frames)
    except RemoteProtocolError:
        return
    assert isinstance(message.body, Body)
    assert decode(encode(message)) == message


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_random_frames(frames: list[bytes]) -> None:
    _survives(frames)


@pytest.mark.parametrize("count", [0, 3, 4, 1000])
def test_a_wrong_number_of_frames(count: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"this has {count}"):
        decode(encode(example("ping", USUAL)) * count)


@given(data=st.data(), name=st.sampled_from(sorted(REGISTRY)), case=st.sampled_from(CASES))
def test_mutated_vectors(data: st.DataObject, name: str, case: str) -> None:
    frame = bytearray(encode(example(name, case))[0])
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip":
                frame[place] = data.draw(st.integers(0, 255))
            case "cut":
                del frame[place + 1 :]
            case "insert":
                frame[place:place] = data.draw(st.binary(max_size=9))
            case "repeat":
                frame[place:place] = frame[place : place + 20]
    _survives([bytes(frame)])


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(name=st.sampled_from([*sorted(REGISTRY), "no_such_type"]), body=_anything, changed=_anything, data=st.data())
def test_well_formed_msgpack_of_the_wrong_shape(name: str, body: Any, changed: Any, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(["v", "rid", "seq", "epoch", "ttl_ms", "extra"]))
    _survives(_plain(example("ping", USUAL), **{"type": name, "body": body, field: changed}))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\x81\xa4body", b"\xdc\x00\x01", b"\xdd\xff\xff\xff\xff"])
@pytest.mark.parametrize("depth", [10, 1000, 20_000])
def test_deep_nesting(opening: bytes, depth: int) -> None:
    deep = opening * min(depth, limits.HEADER_MAX_BYTES // len(opening))
    ping = encode(example("ping", USUAL))[0]
    assert ping.endswith(b"\xa4body\x80")
    for garbage in (deep, deep + b"\xc0", ping[:-1] + deep, ping[:-1] + deep + b"\xc0"):
        _survives([garbage])


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x80",
        b"\xff" * 100,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
def test_well_known_garbage(garbage: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="header cannot be read"):
        decode([garbage])


@pytest.mark.parametrize("bad", [b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80", b"\xa1\xc3"], ids=repr)
def test_text_that_is_no_utf_8(bad: bytes) -> None:
    frame = encode(Message(RID, 0, 1, 0, Delta(text="")))[0]
    assert frame.endswith(b"\xa4text\xa0")
    with pytest.raises(RemoteProtocolError, match="delta cannot be read") as caught:
        decode([frame[:-1] + bad])
    assert caught.value.rid == RID
    with pytest.raises(RemoteProtocolError, match="header cannot be read"):
        decode([frame.replace(b"\xa5delta", bad)])


# --- what the answer to garbage needs --------------------------------------------------------------------


def test_another_version_names_its_request() -> None:
    with pytest.raises(RemoteProtocolError, match="version 2 is not spoken here") as caught:
        decode(_plain(Message(RID, 0, 5, 0, Ping()), v=2, type="unheard_of"))
    assert (caught.value.code, caught.value.rid, caught.value.epoch) == (Code.UNSUPPORTED_VERSION, RID, 5)


def test_an_unknown_type_names_its_request() -> None:
    with pytest.raises(RemoteProtocolError, match="type 'unheard_of' is not known") as caught:
        decode(_plain(Message(RID, 0, 5, 0, Ping()), type="unheard_of"))
    assert (caught.value.code, caught.value.rid, caught.value.epoch) == (Code.UNKNOWN_TYPE, RID, 5)


def test_each_type_has_its_own_name_and_one_kind() -> None:
    for name, cls in REGISTRY.items():
        assert cls.type_name() == name
        assert isinstance(shape.type_info(cls), shape.StructType)
        assert cls.KIND in type(cls.KIND)
