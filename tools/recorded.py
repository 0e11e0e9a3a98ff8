"""A conversation of recordings with running daemons: each is said at speaking pace, each turn is reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ipc.client import Client
from ipc.errors import CallCancelled, CallError
from ipc.ids import new_rid
from ipc.messages import Follow, Notice, Stages, TurnHeard, TurnReport, TurnSaid
from tools.voice import WireMicrophone, WireSpeaker

NOTHING_HEARD_S = 5.0
"""A recording that brought no word this long after its end holds none."""

ANOTHER_TURN_S = 2.0
"""A recording may hold several turns; the last one begins within this time of its end."""

LAST_SOUND_S = 2.0
"""How long the last samples of an answer may take after its report."""


@dataclass
class TurnResult:
    """One turn as `--json` prints it."""

    report: TurnReport
    reply_wav: str | None

    def as_json(self) -> str:
        report = self.report
        return json.dumps(
            {
                "rid": report.turn.hex(),
                "heard": report.heard,
                "said": report.said,
                "outcome": report.outcome,
                "detail": report.detail,
                "speech_end_to_first_audio_ms": _rounded(report.first_audio_ms),
                "stages_ms": _stages(report.stages),
                "tokens": {
                    "prompt": report.prompt_tokens,
                    "cached": report.cached_tokens,
                    "answer": report.completion_tokens,
                },
                "memories": report.memories,
                "reply_wav": self.reply_wav,
            }
        )

    def where_the_time_went(self) -> str:
        """One line: the total and its parts."""
        if self.report.first_audio_ms is None:
            return "no sound"
        parts = [f"{name} {ms:.0f}" for name, ms in (_stages(self.report.stages) or {}).items()]
        return f"first audio after {self.report.first_audio_ms:.0f} ms: {' + '.join(parts)}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _stages(stages: Stages | None) -> dict[str, float] | None:
    if stages is None:
        return None
    return {name: round(ms, 3) for name, ms in msgspec.structs.asdict(stages).items()}


@dataclass
class Talk:
    """A conversation of recordings with running daemons. Use `open_talk`."""

    microphone: WireMicrophone
    speaker: WireSpeaker
    happened: asyncio.Queue[TurnHeard | TurnSaid | TurnReport | Notice]
    out: Path | None
    broken: asyncio.Future[None]
    number: int = 0
    notices: list[str] = field(default_factory=list)

    async def play(self, pcm: bytes) -> AsyncIterator[TurnResult]:
        """Says `pcm`; yields each turn that comes of it. None comes of silence. Raises PeerGone when a daemon that
        the conversation needs goes away."""
        saying = asyncio.create_task(self.microphone.say(pcm))
        try:
            open_turns: set[bytes] = set()
            patience = NOTHING_HEARD_S
            while True:
                item = await self._next(saying, None if open_turns else patience)
                if item is None:
                    return
                if isinstance(item, TurnHeard):
                    open_turns.add(item.turn)
                elif isinstance(item, Notice):
                    self.notices.append(item.text)
                elif isinstance(item, TurnReport):
                    open_turns.discard(item.turn)
                    patience = 0.0 if saying.done() and not open_turns else ANOTHER_TURN_S
                    if item.outcome != "cancelled":
                        yield await self._result(item)
        finally:
            saying.cancel()

    def take_notices(self) -> list[str]:
        """What a person should know of the turns so far."""
        notices, self.notices = self.notices, []
        return notices

    async def _next(self, saying: asyncio.Task[None], patience: float | None) -> Any:
        """What happens next; None when nothing does for `patience` s after the recording's end."""
        getting = asyncio.ensure_future(self.happened.get())
        try:
            if not saying.done():
                await self._first_of(getting, saying)
            if not getting.done() and self.happened.empty():
                await self._first_of(getting, timeout=patience)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()

    async def _first_of(self, *futures: asyncio.Future[Any], timeout: float | None = None) -> None:
        await asyncio.wait({*futures, self.broken}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self.broken.done():
            self.broken.result()

    async def _result(self, report: TurnReport) -> TurnResult:
        if self.out is None or report.first_audio_ms is None:
            return TurnResult(report, None)
        self.number += 1
        path = self.out / f"reply-{self.number:02d}.wav"
        reply = self.speaker.replies.pop(report.turn)
        with suppress(TimeoutError):
            await asyncio.wait_for(reply.complete.wait(), LAST_SOUND_S)
        reply.write(path)
        return TurnResult(report, str(path))


async def open_talk(stack: AsyncExitStack, out: Path | None) -> Talk:
    """Connects to the daemons as microphone, speaker and follower of a conversation of its own."""
    name = f"talk-{new_rid().hex()[-12:]}"
    clients = {d: await stack.enter_async_context(Client(d, "talk")) for d in ("stt", "tts", "dialog")}
    for client in clients.values():
        await client.wait_connected()
    loop = asyncio.get_running_loop()
    talk = Talk(
        WireMicrophone(clients["stt"], name),
        WireSpeaker(clients["tts"], name),
        asyncio.Queue(),
        out,
        loop.create_future(),
    )

    async def follow() -> None:
        async for item, _ in clients["dialog"].open(Follow(conversation=name)):
            talk.happened.put_nowait(item)  # type: ignore[arg-type]

    for job in (follow(), talk.speaker.run(), talk.microphone.run()):
        task = asyncio.create_task(_or_break(job, talk.broken))
        stack.callback(task.cancel)
    return talk


async def _or_break(job: Coroutine[Any, Any, None], broken: asyncio.Future[None]) -> None:
    try:
        await job
    except (CallError, CallCancelled) as error:
        if not broken.done():
            broken.set_exception(error)
