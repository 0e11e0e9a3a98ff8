"""`timmy talk`: a live conversation, or recorded questions through the very same daemons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import click

from ipc.audio import read_wav
from ipc.client import Client
from ipc.errors import CallError, Code
from ipc.messages import HOME, Follow, Notice, Status, StatusReport, TurnReport
from ipc.text import printable
from tools.recorded import TurnResult, open_talk


@click.command()
@click.option("--wav", "wavs", type=click.Path(path_type=Path), multiple=True, help="A recorded question; repeatable.")
@click.argument("more", type=click.Path(path_type=Path), nargs=-1, metavar="[WAV]...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write each answer there as a WAV.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a turn.")
def talk(wavs: Sequence[Path], more: Sequence[Path], out: Path | None, as_json: bool) -> None:
    """Hold a conversation.

    Without WAV files: speak, and read along. With them: each is said at speaking pace.

    \b
    timmy talk
    timmy talk --wav question.wav another.wav --out answers --json
    """
    questions = [*wavs, *more]
    if questions:
        recordings = [read_wav(path) for path in questions]
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        asyncio.run(_recorded(recordings, out, as_json))
    else:
        asyncio.run(live(as_json))


async def _recorded(recordings: list[bytes], out: Path | None, as_json: bool) -> None:
    async with AsyncExitStack() as stack:
        conversation = await open_talk(stack, out)
        for pcm in recordings:
            heard = False
            async for result in conversation.play(pcm):
                heard = True
                show(result, as_json)
            for notice in conversation.take_notices():
                click.echo(f"       ({printable(notice)})", err=True)
            if not heard:
                click.echo("       (no words were heard in it)", err=True)


def show(result: TurnResult, as_json: bool) -> None:
    """One turn, for a program or for a person."""
    if as_json:
        click.echo(result.as_json())
        return
    report = result.report
    click.echo(f"you    {printable(report.heard)}")
    detail = f"  [{report.outcome}: {report.detail}]" if report.detail else ""
    click.echo(f"timmy  {printable(report.said + detail)}")
    click.echo(f"       {result.where_the_time_went()}")
    if result.reply_wav:
        click.echo(f"       {result.reply_wav}")


async def live(as_json: bool) -> None:
    """Reads along until Ctrl-C; the microphone and the speaker are the daemons' own."""
    async with Client("stt", "talk") as stt, Client("dialog", "talk") as dialog:
        await _check_microphone(stt)
        await dialog.wait_connected()
        if not as_json:
            click.echo("Speak. Ctrl-C ends it.")
        async for item, _ in dialog.open(Follow(conversation=HOME)):
            if isinstance(item, TurnReport):
                show(TurnResult(item, None), as_json)
            elif as_json:
                continue
            elif isinstance(item, Notice):
                click.echo(f"       ({printable(item.text)})", err=True)


async def _check_microphone(stt: Client) -> None:
    status = await stt.request(Status())
    if isinstance(status, StatusReport) and status.state == "degraded":
        raise CallError(Code.DEVICE_MISSING, f"{status.detail}; recorded questions work: timmy talk --wav FILE")
