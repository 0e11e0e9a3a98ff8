"""Campaign 1: golden vectors, damaged at random, at the codec. Whatever comes, only RemoteProtocolError escapes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from ipc.codec import decode, encode
from ipc.errors import LocalProtocolError, RemoteProtocolError
from tests.protocol.make_vectors import FILE

CORPUS = Path(__file__).with_name("corpus") / "codec"
"""Inputs that once failed: a file each, a frame a line, in hexadecimal digits."""

Frames = list[bytes]

_MARKERS = bytes(
    [0xC0, 0xC1, 0xC4, 0xC6, 0xC7, 0xC9, 0xCB, 0xCF, 0xD3, 0xD9, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0x7F, 0x80, 0xFF]
)
"""First bytes of msgpack values whose length or sign is easily misread, and one that no value begins with."""


class Broken(AssertionError):
    """What `frames` did that they must not."""

    def __init__(self, frames: Frames, what: str) -> None:
        super().__init__(f"{what}: {' '.join(frame.hex() for frame in frames)}")
        self.frames = frames


def vectors() -> list[Frames]:
    """The frames of every golden vector."""
    return [[bytes.fromhex(frame) for frame in vector["frames"]] for vector in json.loads(FILE.read_text("utf-8"))]


def corpus() -> Iterator[Frames]:
    for path in sorted(CORPUS.glob("*.hex")):
        yield [bytes.fromhex(line) for line in path.read_text("ascii").split()]


def run(count: int, seed: int, code: Callable[[Frames], object] = decode) -> dict[str, int]:
    """How many inputs there were, and how many of them were still messages. Raises Broken."""
    chance, known, whole = random.Random(seed), vectors(), 0
    for frames in corpus():
        check(frames, code)
    for _ in range(count):
        whole += check(damaged(chance, known), code)
    return {"inputs": count, "still messages": whole}


def check(frames: Frames, code: Callable[[Frames], object] = decode) -> bool:
    """Whether it is a message. One that is comes back the same when it is sent. Raises Broken."""
    try:
        message = code(frames)
    except RemoteProtocolError:
        return False
    except BaseException as error:
        raise Broken(frames, f"{type(error).__name__} escaped") from error
    try:
        again = decode(encode(message))  # type: ignore[arg-type]
    except (LocalProtocolError, RemoteProtocolError) as error:
        raise Broken(frames, f"it was read and cannot be sent ({error})") from error
    if repr(again) != repr(message):  # NaN is not equal to itself
        raise Broken(frames, "it changes when it is sent")
    return True


def damaged(chance: random.Random, known: list[Frames]) -> Frames:
    """One of `known` with one to four faults."""
    frames = [bytearray(frame) for frame in chance.choice(known)]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice((_flip, _set, _marker, _cut, _insert, _repeat, _splice, _frames))(chance, frames, known)
    return [bytes(frame) for frame in frames]


Damaged = list[bytearray]


def _place(chance: random.Random, frames: Damaged) -> tuple[bytearray, int]:
    frame = frames[0] if frames and chance.random() < 0.9 else chance.choice(frames or [bytearray(b"\x80")])
    return frame, chance.randrange(len(frame)) if frame else 0


def _flip(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    if frame:
        frame[at] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    if frame:
        frame[at] = chance.randrange(256)


def _marker(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    if frame:
        frame[at] = chance.choice(_MARKERS)


def _cut(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    del frame[at : at + chance.choice((1, 2, 8, len(frame)))]


def _insert(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    frame[at:at] = chance.randbytes(chance.choice((1, 2, 5, 64)))


def _repeat(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    part = frame[at : at + chance.randrange(1, 40)]
    frame[at:at] = part * chance.choice((1, 2, 500))


def _splice(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    frame, at = _place(chance, frames)
    other = chance.choice(known)[0]
    frame[at:] = other[chance.randrange(len(other)) :]


def _frames(chance: random.Random, frames: Damaged, known: list[Frames]) -> None:
    if chance.random() < 0.5 and frames:
        del frames[chance.randrange(len(frames))]
    else:
        frames.insert(chance.randrange(len(frames) + 1), bytearray(chance.randbytes(chance.randrange(9))))


def keep(frames: Frames, name: str) -> Path:
    """Puts an input into the corpus, where every later run begins with it."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    path = CORPUS / f"{name}.hex"
    path.write_text("\n".join(frame.hex() for frame in frames) + "\n", "ascii")
    return path
