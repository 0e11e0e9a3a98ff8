"""A conversation of recordings with running daemons: each is said at speaking pace, each turn is reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ipc.client import Client
from ipc.errors import CallCancelled, CallError, Code
from ipc.ids import new_rid
from ipc.messages import Body, Follow, Notice, Stages, TurnHeard, TurnReport
from tools.voice import WireMicrophone, WireSpeaker

NOTHING_HEARD_S = 5.0
"""A recording that brought no word this long after its end holds none."""

ANOTHER_TURN_S = 2.0
"""A recording may hold several turns; the last one begins within this time of its end."""

RESTART_S = 15.0
"""How long a daemon may be away: supervision starts it again, and it loads its model."""

AGAIN_S = 0.1

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
        parts = [f"{name} {round(ms)}" for name, ms in (_stages(self.report.stages) or {}).items()]
        return f"first audio after {self.report.first_audio_ms:.0f} ms: {' + '.join(parts)}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _stages(stages: Stages | None) -> dict[str, float] | None:
    if stages is None:
        return None
    return {name: round(ms, 3) for name, ms in msgspec.structs.asdict(stages).items()}


class _Lost(NamedTuple):
    """dialog went away: what it had in hand will not be answered."""

    detail: str


@dataclass
class Talk:
    """A conversation of recordings with running daemons. Use `open_talk`.

    A daemon that is restarted between two turns costs nothing: the connections heal.
    """

    name: str
    microphone: WireMicrophone
    speaker: WireSpeaker
    out: Path | None
    gone: asyncio.Future[None]
    happened: asyncio.Queue[Body | _Lost] = field(default_factory=asyncio.Queue)
    notices: list[str] = field(default_factory=list)
    number: int = 0

    async def play(self, pcm: bytes) -> AsyncIterator[TurnResult]:
        """Says `pcm`; yields each turn that comes of it. None comes of silence. Raises PeerGone when a daemon stays
        away."""
        saying = asyncio.create_task(self.microphone.say(pcm))
        try:
            open_turns: dict[bytes, str] = {}
            patience = NOTHING_HEARD_S
            while (item := await self._next(saying, None if open_turns else patience)) is not None:
                if isinstance(item, TurnHeard):
                    open_turns[item.turn] = item.text
                for report in self._ended(item, open_turns):
                    open_turns.pop(report.turn, None)
                    patience = ANOTHER_TURN_S
                    if report.outcome != "cancelled":  # a cancelled one was given up for the one that follows
                        patience = 0.0 if saying.done() and not open_turns else ANOTHER_TURN_S
                        yield await self._result(report)
        finally:
            saying.cancel()

    def _ended(self, item: Body | _Lost, open_turns: dict[bytes, str]) -> list[TurnReport]:
        """The turns that end with `item`."""
        if isinstance(item, TurnReport):
            return [item]
        if isinstance(item, Notice):
            self.notices.append(item.text)
        if isinstance(item, _Lost):
            return [_unanswered(self.name, turn, text, item.detail) for turn, text in open_turns.items()]
        return []

    def take_notices(self) -> list[str]:
        """What a person should know of the turns so far."""
        notices, self.notices = self.notices, []
        return notices

    async def follow(self, dialog: Client) -> None:
        """Puts all that happens into the queue, until dialog goes away."""
        try:
            async for item, _ in dialog.open(Follow(conversation=self.name)):
                self.happened.put_nowait(item)
        except (CallError, CallCancelled) as error:
            self.happened.put_nowait(_Lost(str(error)))
            raise

    async def _next(self, saying: asyncio.Task[None], patience: float | None) -> Body | _Lost | None:
        """What happens next; None when nothing does for `patience` s after the recording's end."""
        getting = asyncio.ensure_future(self.happened.get())
        try:
            await self._first_of(getting, saying)
            if not getting.done():
                await self._first_of(getting, timeout=patience)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()

    async def _first_of(self, *futures: asyncio.Future[Any], timeout: float | None = None) -> None:
        await asyncio.wait({*futures, self.gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self.gone.done():
            self.gone.result()

    async def _result(self, report: TurnReport) -> TurnResult:
        reply = self.speaker.replies.get(report.turn)
        if self.out is None or reply is None:
            return TurnResult(report, None)
        self.number += 1
        path = self.out / f"reply-{self.number:02d}.wav"
        with suppress(TimeoutError):
            await asyncio.wait_for(reply.complete.wait(), LAST_SOUND_S)
        reply.write(path)
        return TurnResult(report, str(path))


async def open_talk(stack: AsyncExitStack, out: Path | None, name: str | None = None) -> Talk:
    """Connects to the daemons as microphone, speaker and follower of a conversation: `name`, or a new one."""
    name = name or f"talk-{new_rid().hex()[-12:]}"
    clients = {d: await stack.enter_async_context(Client(d, "talk")) for d in ("stt", "tts", "dialog")}
    for client in clients.values():
        await client.wait_connected()
    microphone, speaker = WireMicrophone(clients["stt"], name), WireSpeaker(clients["tts"], name)
    talk = Talk(name, microphone, speaker, out, asyncio.get_running_loop().create_future())
    jobs: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "stt": microphone.run,
        "tts": speaker.run,
        "dialog": lambda: talk.follow(clients["dialog"]),
    }
    for daemon, job in jobs.items():
        task = asyncio.create_task(_keep(clients[daemon], job, talk.gone))
        stack.callback(task.cancel)
    return talk


async def _keep(client: Client, job: Callable[[], Coroutine[Any, Any, None]], gone: asyncio.Future[None]) -> None:
    """Runs `job` again whenever its daemon has come back. `gone` fails when it does not, or refuses."""
    try:
        while not gone.done():
            await client.wait_connected(RESTART_S)
            with _restarting():
                await job()
            await asyncio.sleep(AGAIN_S)
    except Exception as error:
        if not gone.done():
            gone.set_exception(error)


@contextmanager
def _restarting() -> Iterator[None]:
    """Lets pass what a daemon that is being restarted answers, or one that took us for gone."""
    try:
        yield
    except CallCancelled:
        return
    except CallError as error:
        if error.code not in (Code.PEER_GONE, Code.NOT_READY):
            raise


def _unanswered(conversation: str, turn: bytes, heard: str, detail: str) -> TurnReport:
    return TurnReport(
        conversation=conversation,
        turn=turn,
        heard=heard,
        said="Sorry, the answer is lost.",
        outcome="failed",
        detail=detail,
        first_audio_ms=None,
        stages=None,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        memories=0,
    )
