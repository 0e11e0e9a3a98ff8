"""`timmy bench endpoint`: how often a pause is taken for the end of a turn, and how long an end takes to be believed.

The transcriber, the voice detector and the segmenter are the real ones; the clock is not: frames follow each other as
fast as they are heard, and a transcript takes no time, so that the decision alone is measured, and at its hastiest.
What the transcript takes, `timmy bench turn` tells.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from daemons.config import Endpointing, Stt
from ipc.audio import STT_RATE, Resampler, paced
from ipc.ids import new_rid
from ipc.messages import Down, TurnFinal
from tools.bench.comparison import spread
from tools.show import json_option, print_json, print_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

DATA = Path(__file__).parent / "data"
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPTS_HINT = "recorded prompts: not here (sudo apt install asterisk-core-sounds-en-g722)"
PROMPT_MIN_S = 1.5
"""Shorter ones are single words and beeps."""
PAUSE_MS = range(200, 601)
LEAD_MS, TRAIL_MS = 500, 1600
NOISE = 1e-3
"""Standard deviation of the noise under it all: 60 dB below full scale, a quiet room."""
SOUND = 0.01
"""Quieter samples at the ends of a phrase belong to the pause."""
EDGE = 0.3
"""A recorded prompt is parted at its quietest point, but not in its first or last three tenths."""

Kind = Literal["pause", "breaks off", "question", "other"]
Read = Callable[[bytes], str]
"""The words in PCM."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """`kind`: with a pause inside, its beginning alone, or whole and without one."""

    kind: Kind
    pcm: bytes
    end_ms: int
    """Where the last sound ends."""


@click.command()
@click.option(
    "--set",
    "name",
    default="reporting",
    show_default=True,
    type=click.Choice(["reporting", "tuning"]),
    help="Which sentences; the weights were chosen on those for tuning.",
)
@json_option
def endpoint(name: str, as_json: bool) -> None:
    """Say sentences with and without a pause of 200 to 600 ms inside; report turns cut off, and the wait at an end.

    A turn is cut off when it is confirmed before its last sound. Waits are ms from the last voiced sample to the final.

    \b
    timmy bench endpoint --json
    """
    sources = {"joe": asyncio.run(_spoken(_lines(DATA / f"endpoint_{name}.txt")))}
    if PROMPTS.is_dir():
        sources["recorded prompts"] = list(_prompts())
    figures = {source: measure(utterances) for source, utterances in sources.items()}
    if as_json:
        print_json(figures)
    else:
        show(figures)


def show(figures: Mapping[str, Any]) -> None:
    """The figures, for a person."""
    for source, by_setting in figures.items():
        print_table(
            [source, "cut off", "95 %", "question p50", "p90", "other p50", "p90", "breaks off p50", "p90"],
            [_row(setting, row) for setting, row in by_setting.items()],
        )
    if len(figures) < 2:
        click.echo(PROMPTS_HINT)


def _row(setting: str, row: Mapping[str, Any]) -> list[str]:
    cut = row["cut_off"]
    shown = [setting, f"{cut['count']} of {cut['of']}", f"{cut['low_percent']:.1f}-{cut['high_percent']:.1f} %"]
    for kind in ("question", "other", "breaks off"):
        wait = row["wait_ms"].get(kind)
        shown += [f"{wait['p50']:.0f}", f"{wait['p90']:.0f}"] if wait else ["-", "-"]
    return shown


def measure(utterances: Sequence[Utterance]) -> dict[str, Any]:
    """Figures by setting. Both hear the same and are given the same transcripts."""
    read = transcripts()
    return {setting: _figures(setting, utterances, read) for setting in get_args(Endpointing)}


def _figures(setting: Endpointing, utterances: Sequence[Utterance], read: Read) -> dict[str, Any]:
    waits: dict[str, list[float]] = {}
    cuts = []
    for utterance in utterances:
        finals = [event for event in rehearse(utterance.pcm, setting, read) if isinstance(event, TurnFinal)]
        if utterance.kind == "pause":
            cuts.append(any(final.sent_ns < utterance.end_ms * 1_000_000 for final in finals))
        elif finals:  # of a sigh or a beep there is none
            waits.setdefault(utterance.kind, []).append((finals[-1].sent_ns - finals[-1].last_voiced_ns) / 1e6)
    low, high = wilson(sum(cuts), len(cuts))
    return {
        "cut_off": {"count": sum(cuts), "of": len(cuts), "low_percent": low * 100, "high_percent": high * 100},
        "wait_ms": {kind: {"n": len(values), **spread(values)} for kind, values in waits.items()},
    }


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's score interval)."""
    z, share = 1.96, count / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - half) / (1 + z * z / of)), min(1.0, (middle + half) / (1 + z * z / of))


# --- the ear, in simulated time -------------------------------------------------------------------


def rehearse(pcm: bytes, endpointing: Endpointing, read: Read) -> list[Down]:
    """What stt tells of `pcm` whose first sample is captured at 0."""
    from daemons.engines.webrtc import WebRtcDetector
    from daemons.stt.core import Effect, Segmenter, Transcribe
    from daemons.stt.endpointing import confirm_after
    from daemons.stt.turn import Heard

    settings = Stt()
    detector = WebRtcDetector(settings.vad_aggressiveness)
    judge = confirm_after(endpointing, settings.language)
    core = Segmenter("bench", new_rid, judge, settings.candidate_silence_ms)
    told: list[Down] = []

    def apply(effects: Sequence[Effect], now_ns: int) -> None:
        for effect in effects:
            if isinstance(effect, Transcribe):
                apply(core.transcribed("" if effect.draft else read(effect.pcm), now_ns), now_ns)
            else:
                told.append(effect)

    for frame in paced(pcm, 0):
        heard = Heard(frame.t_ns, detector.is_speech(frame.pcm), frame.pcm)
        apply(core.frame(heard, frame.due_ns), frame.due_ns)
    return told


def transcripts() -> Read:
    """The transcriber, which reads nothing twice."""
    from daemons.engines.whisper import WhisperTranscriber

    settings = Stt()
    whisper = WhisperTranscriber(settings.model, settings.device, settings.threads, settings.language)
    known: dict[bytes, str] = {}

    def read(pcm: bytes) -> str:
        if pcm not in known:
            known[pcm] = whisper.transcribe(pcm).text
        return known[pcm]

    return read


# --- what is said ---------------------------------------------------------------------------------


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]


async def _spoken(lines: Sequence[str]) -> list[Utterance]:
    """Each line by the voice; of one with a pause its beginning, too."""
    import numpy as np

    from daemons.engines.piper import PiperSynthesizer

    voice = PiperSynthesizer("joe")
    said: list[Utterance] = []
    try:
        for line in lines:
            parts = []
            for text in line.split("|"):
                pcm = b"".join([chunk async for chunk in voice.synthesize(text.strip())])
                resampler = Resampler(voice.sample_rate, STT_RATE)
                samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
                parts.append(np.concatenate([resampler.push(samples), resampler.flush()]))
            said += _utterances(parts, line)
    finally:
        await voice.close()
    return said


def _prompts() -> Iterator[Utterance]:
    """Recordings of another speaker, whole, and parted in two. The half of them whose names have an odd CRC-32 is
    kept for acceptance."""
    import numpy as np

    from daemons.engines.recording import read_recording

    for path in sorted(PROMPTS.rglob("*.g722")):
        if zlib.crc32(path.name.encode()) % 2 == 0:
            samples = _trimmed(np.frombuffer(read_recording(path), "<i2").astype(np.float32) / np.float32(32768))
            if len(samples) >= PROMPT_MIN_S * STT_RATE:
                yield from _utterances([samples], path.name)
                yield from _utterances(np.split(samples, [_quietest(samples)]), path.name)


def _utterances(parts: Sequence[Samples], name: str) -> Iterator[Utterance]:
    """`name` chooses the length of the pause, so that it is the same in every run."""
    parts = [_trimmed(part) for part in parts]
    if len(parts) == 1:
        yield _recorded("question" if name.endswith("?") else "other", parts[0])
        return
    import numpy as np

    pause_ms = PAUSE_MS[zlib.crc32(name.encode()) % len(PAUSE_MS)]
    pause = np.zeros(pause_ms * STT_RATE // 1000, np.float32)
    yield _recorded("pause", np.concatenate([parts[0], pause, parts[1]]))
    yield _recorded("breaks off", parts[0])


def _recorded(kind: Kind, sound: Samples) -> Utterance:
    """As a microphone in a quiet room takes it, with time before and after it."""
    import numpy as np

    from ipc.audio import to_pcm

    lead, trail = (np.zeros(ms * STT_RATE // 1000, np.float32) for ms in (LEAD_MS, TRAIL_MS))
    samples = np.concatenate([lead, sound, trail])
    noise = np.random.default_rng(0).normal(0, NOISE, len(samples)).astype(np.float32)
    return Utterance(kind, to_pcm(samples + noise), LEAD_MS + len(sound) * 1000 // STT_RATE)


def _trimmed(samples: Samples) -> Samples:
    import numpy as np

    loud = np.flatnonzero(np.abs(samples) > SOUND)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def _quietest(samples: Samples) -> int:
    """The middle of the quietest 40 ms that lie neither near the beginning nor near the end."""
    import numpy as np

    first, width = int(len(samples) * EDGE), STT_RATE // 25
    energy = np.cumsum(samples[first : len(samples) - first].astype(np.float64) ** 2)
    return first + int(np.argmin(energy[width:] - energy[:-width])) + width // 2
