"""`timmy ask`, `chat` and `say`: the keyboard's way to dialog."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import click
import msgspec

from ipc.client import Client
from ipc.errors import CallError, Code
from ipc.limits import TEXT_MAX_CHARS
from ipc.messages import HOME, Answered, Ask, Conversation, Delta, Say, Status, StatusReport
from ipc.text import printable
from tools.show import json_option, print_json

ANSWER_MS = 180_000
"""A large model on a small machine takes minutes."""
SPEAK_MS = 600_000
LOOK_S = 0.1
"""Between two looks at a voice that loads."""


def _conversation(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return msgspec.convert(value, Conversation)
    except msgspec.ValidationError:
        raise click.BadParameter("a name of up to 64 lower-case letters, digits and _.-", ctx, parameter) from None


def _joined(ctx: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> str:
    return _sendable(" ".join(words))


def _sendable(text: str) -> str:
    """`text` as it is. Raises BadParameter when no daemon would take it."""
    if not text.strip():
        raise click.BadParameter("there is nothing in it")
    if len(text) > TEXT_MAX_CHARS:
        raise click.BadParameter(f"{len(text):,} characters are too long, {TEXT_MAX_CHARS:,} may be sent at once")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8 text") from None
    return text


conversation_option = click.option(
    "--conversation",
    default=HOME,
    show_default=True,
    callback=_conversation,
    help="Whose history it belongs to.",
)


@click.command()
@click.argument("question", nargs=-1, required=True, callback=_joined)
@click.option("--aloud", is_flag=True, help="Speak the answer, too.")
@conversation_option
@json_option
def ask(question: str, aloud: bool, conversation: str, as_json: bool) -> None:
    """Ask one question, read the answer.

    \b
    timmy ask "When does the plumber come?"
    timmy ask --aloud --json What is the capital of France
    """
    request = Ask(conversation=conversation, text=question, speak=aloud)
    if as_json:
        print_json(msgspec.to_builtins(asyncio.run(answer(request, lambda piece: None))))
    else:
        _print_answer(request)


@click.command()
@click.argument("text", nargs=-1, required=True, callback=_joined)
@conversation_option
def say(text: str, conversation: str) -> None:
    """Speak a text as it is.

    \b
    timmy say "Dinner is ready."
    """
    asyncio.run(_say(Say(conversation=conversation, text=text)))


@click.command()
@click.option("--aloud", is_flag=True, help="Speak the answers, too.")
@conversation_option
def chat(aloud: bool, conversation: str) -> None:
    """Converse by keyboard; Ctrl-D ends it, Ctrl-C ends an answer.

    \b
    timmy chat
    timmy chat --aloud
    """
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  (input() gets a history and editing keys)
    while True:
        try:
            line = input("> " if interactive else "")
        except EOFError:
            return
        if line.strip():
            _one_of_many(conversation, line.strip(), aloud, interactive)


def _one_of_many(conversation: str, line: str, aloud: bool, interactive: bool) -> None:
    """A question whose failure does not end a conversation that somebody is typing."""
    try:
        _print_answer(Ask(conversation=conversation, text=_sendable(line), speak=aloud))
    except (CallError, click.BadParameter) as error:
        if not interactive:
            raise
        click.echo(f"({error})", err=True)
    except KeyboardInterrupt:
        if not interactive:
            raise
        click.echo(" (given up)", err=True)


def _print_answer(request: Ask) -> None:
    pieces = 0

    def show(piece: str) -> None:
        nonlocal pieces
        pieces += 1
        click.echo(printable(piece), nl=False)

    try:
        asyncio.run(answer(request, show))
    finally:
        if pieces:
            click.echo()


async def answer(request: Ask, on_piece: Callable[[str], None]) -> Answered:
    """Asks dialog; `on_piece` gets the answer as it grows. Raises CallError."""
    async with Client("dialog", "ask") as dialog:
        await dialog.wait_connected()
        stream = dialog.open(request, ttl_ms=ANSWER_MS)
        async for item, _ in stream:
            if isinstance(item, Delta):
                on_piece(item.text)
        result = await stream.result()
    assert isinstance(result, Answered)
    return result


async def _say(request: Say) -> None:
    async with Client("dialog", "say") as dialog:
        await dialog.wait_connected()
        if request.conversation == HOME:
            await _check_speaker()
        await dialog.request(request, ttl_ms=SPEAK_MS)


async def _check_speaker() -> None:
    """Waits until the voice is loaded. Raises CallError where nobody would hear it."""
    async with Client("tts", "say") as tts:
        while True:
            status = await tts.request(Status())
            assert isinstance(status, StatusReport)
            if status.state != "loading":
                break
            await asyncio.sleep(LOOK_S)
    if status.state == "degraded":
        raise CallError(Code.DEVICE_MISSING, status.detail)
