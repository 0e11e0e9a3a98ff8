"""Recordings in the formats that faster-whisper's own library reads, for measurements."""

from __future__ import annotations

from pathlib import Path

from daemons.engines.base import STT_RATE
from ipc.audio import to_pcm


def read_recording(path: Path) -> bytes:
    """The sound of a file as STT_RATE 16-bit mono; its name ends as its format is called, e.g. ".g722"."""
    from faster_whisper.audio import decode_audio

    return to_pcm(decode_audio(str(path), STT_RATE))
