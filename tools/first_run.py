"""`make run`: starts the daemons and holds a first conversation, spoken or, without a microphone, recorded.

The recorded one shows that Timmy remembers: it is told something, asked, and asked again after every daemon was
restarted. What the recordings made it remember is forgotten at the end; what was there before stays.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import click

from ipc.audio import read_wav
from ipc.client import Client
from ipc.errors import EXIT_OK, EXIT_SOFTWARE, TimmyError
from ipc.messages import Forget, Status, StatusReport
from tools.memories import all_memories
from tools.recorded import open_talk
from tools.supervise import Supervisor
from tools.talk import live, show

EXAMPLES = Path(__file__).parent.parent / "examples"
TOLD_AND_ASKED = ("1-remember.wav", "2-capital.wav", "3-plumber.wav")
ASKED_AGAIN = ("3-plumber.wav",)
READY_S = 120.0


def main() -> int:
    """The exit status: 0 when every question got its answer."""
    out = Path(sys.argv[1])
    for part in ("first", "restarted"):
        (out / part).mkdir(parents=True, exist_ok=True)
    try:
        return _converse(out)
    except TimmyError as error:
        click.echo(f"timmy: {error}", err=True)
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_OK


def _converse(out: Path) -> int:
    with _daemons():
        if asyncio.run(_has_microphone()):
            asyncio.run(live(as_json=False))
            return EXIT_OK
        known = asyncio.run(_memories())
        answered = asyncio.run(_play(TOLD_AND_ASKED, out / "first"))
    click.echo("\nAll five daemons have been stopped. Once more, from memory:")
    with _daemons():
        answered &= asyncio.run(_play(ASKED_AGAIN, out / "restarted"))
        asyncio.run(_forget_all_but(known))
    click.echo(
        f"\nThe answers are in {out}/. What the recordings told is forgotten again.\n"
        "Next: `.venv/bin/timmy up` in one terminal, `.venv/bin/timmy chat` in another."
    )
    return EXIT_OK if answered else EXIT_SOFTWARE


@contextmanager
def _daemons() -> Iterator[None]:
    """The five daemons, ready."""
    began = time.monotonic()
    with Supervisor() as supervisor:
        supervisor.wait_ready(READY_S)
        click.echo(f"Five daemons ready after {time.monotonic() - began:.1f} s.\n")
        yield


async def _has_microphone() -> bool:
    async with Client("stt", "first-run") as stt:
        report = await stt.request(Status())
    assert isinstance(report, StatusReport)
    if report.state == "degraded":
        click.echo(f"{report.detail}; until then, recorded questions.\n")
    return report.state != "degraded"


async def _play(names: Sequence[str], out: Path) -> bool:
    """Says the recordings; whether each was answered."""
    answered = True
    async with AsyncExitStack() as stack:
        conversation = await open_talk(stack, out)
        for name in names:
            results = [result async for result in conversation.play(read_wav(EXAMPLES / name))]
            for result in results:
                show(result, as_json=False)
            answered &= any(result.report.outcome == "answered" for result in results)
    return answered


async def _memories() -> set[int]:
    """The ids of all that is remembered."""
    async with Client("memory", "first-run") as memory:
        return {entry.id async for entry in all_memories(memory)}


async def _forget_all_but(known: set[int]) -> None:
    new = sorted(await _memories() - known)
    async with Client("memory", "first-run") as memory:
        await memory.request(Forget(ids=new))


if __name__ == "__main__":
    sys.exit(main())
