"""Edges of speech, and the queue of what is to sound."""

from __future__ import annotations

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from daemons.engines.pcm import AUDIBLE, Trimmer, fade_out, silence, trim
from daemons.engines.playqueue import Part, PlayQueue

RATE = 16_000
LOUD = array("h", [10_000] * RATE).tobytes()
HISS = array("h", [100, -100] * (RATE // 4)).tobytes()


def samples(pcm: bytes) -> array[int]:
    return array("h", pcm)


def test_silence_around_speech_is_cut() -> None:
    kept = trim(HISS + LOUD + HISS, RATE)
    assert 1.0 <= len(kept) / 2 / RATE <= 1.05


def test_the_edges_rise_and_fall_from_nothing() -> None:
    kept = samples(trim(LOUD, RATE))
    assert kept[0] == kept[-1] == 0
    assert kept[RATE // 2] == 10_000
    assert max(abs(b - a) for a, b in pairwise(kept)) < 300


def test_what_is_inaudible_throughout_is_nothing() -> None:
    assert trim(HISS, RATE) == trim(b"", RATE) == b""


@given(st.lists(st.integers(-32768, 32767), max_size=400))
def test_trim_keeps_what_is_audible(values: list[int]) -> None:
    kept = trim(array("h", values).tobytes(), RATE)
    audible = [n for n, value in enumerate(values) if abs(value) >= AUDIBLE]
    assert len(kept) // 2 >= (audible[-1] - audible[0] + 1 if audible else 0)


LEVELS = st.sampled_from([0, 100, -250, 5_000, -20_000])
RUNS = st.lists(st.tuples(LEVELS, st.integers(1, 600)), max_size=8).map(
    lambda runs: [value for value, count in runs for _ in range(count)]
)


@given(RUNS, st.lists(st.integers(0, 3000), max_size=6))
def test_a_phrase_that_comes_in_pieces_is_trimmed_like_a_whole_one(values: list[int], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    trimmer = Trimmer(RATE)
    for _ in range(2):  # the second phrase as if there had been none before
        pieces = [trimmer.feed(array("h", values[start:end]).tobytes()) for start, end in pairwise(edges)]
        assert b"".join([*pieces, trimmer.end()]) == trim(array("h", values).tobytes(), RATE)


def test_the_beginning_of_a_phrase_is_given_at_once() -> None:
    trimmer = Trimmer(RATE)
    assert trimmer.feed(HISS) == b""
    given = trimmer.feed(LOUD[: RATE // 5])
    assert len(given) / 2 / RATE > 0.09
    assert trimmer.feed(HISS + HISS) != b"", "the decay of what was loud"
    assert trimmer.feed(HISS) == b"", "what may be the end"


def test_fade_out_is_short_and_ends_at_nothing() -> None:
    faded = samples(fade_out(LOUD, RATE))
    assert len(faded) == RATE * 3 // 1000
    assert faded[-1] == 0
    assert list(faded) == sorted(faded, reverse=True)


def test_silence_has_the_length_asked_for() -> None:
    assert silence(250, RATE) == bytes(RATE // 4 * 2)


def test_a_queue_gives_what_was_written_and_where_utterances_begin_and_end() -> None:
    queue = PlayQueue(RATE)
    assert queue.take(10) is None
    queue.write(b"aabb")
    queue.write(b"ccdd")
    queue.mark_end()
    queue.write(b"eeff")
    parts = []
    while part := queue.take(6):
        parts.append(part)
    assert parts == [Part(b"aabbcc", first=True), Part(b"dd", last=True), Part(b"eeff", first=True)]
    queue.mark_end()
    assert queue.take(6) == Part(b"", first=False, last=True)
    assert queue.empty


def test_a_flush_leaves_a_few_faded_samples_of_what_was_sounding() -> None:
    queue = PlayQueue(RATE)
    queue.write(LOUD)
    queue.take(640)
    assert queue.flush()
    rest = queue.take(len(LOUD))
    assert rest is not None
    assert len(rest.pcm) == RATE * 3 // 1000 * 2
    assert not rest.first
    assert not rest.last
    assert queue.take(10) is None
    queue.write(LOUD)
    assert queue.take(640) == Part(LOUD[:640], first=True)


def test_a_flush_before_the_first_sample_leaves_nothing() -> None:
    queue = PlayQueue(RATE)
    queue.write(LOUD)
    queue.mark_end()
    assert not queue.flush()
    assert queue.take(640) is None


@given(
    st.lists(st.one_of(st.binary(min_size=2, max_size=40).map(lambda b: b[: len(b) // 2 * 2]), st.none()), max_size=20),
    st.integers(1, 30).map(lambda n: n * 2),
)
def test_a_queue_loses_and_invents_nothing(blocks: list[bytes | None], size: int) -> None:
    queue = PlayQueue(RATE)
    for block in blocks:
        if block is None:
            queue.mark_end()
        else:
            queue.write(block)
    parts = []
    while part := queue.take(size):
        assert len(part.pcm) <= size
        parts.append(part)
    assert b"".join(part.pcm for part in parts) == b"".join(block for block in blocks if block is not None)
    assert sum(part.last for part in parts) == blocks.count(None)
