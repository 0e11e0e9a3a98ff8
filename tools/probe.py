"""`timmy probe`: one typed request to one daemon, and all that comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ipc.client import Client, Stream
from ipc.endpoints import DAEMONS
from ipc.ids import new_rid
from ipc.messages import REGISTRY, Body, End, Kind, Ping, Rid, Status
from ipc.network import House
from ipc.text import printable_json
from tools.far import house_option
from tools.plain import as_plain

HELLO = "hello"

WORDS: dict[str, Body] = {"ping": Ping(), "health": Status()}


def _messages(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[Body]:
    """The request and the items that follow it; none for `hello`, which every connection begins with. Raises
    BadParameter."""
    if values == (HELLO,):
        return []
    first, *rest = values or ("ping",)
    if alone := [word for word in (first, *rest) if word == HELLO] + [word for word in rest if word in WORDS]:
        raise click.BadParameter(f"{alone[0]!r} stands alone: ask for it by itself", context, option)
    bodies = [WORDS.get(first) or parsed(first), *map(parsed, rest)]
    if bodies[0].KIND is not Kind.REQUEST:
        raise click.BadParameter(f"{bodies[0].type_name()!r} is no request, so it cannot come first", context, option)
    for body in bodies[1:]:
        if body.KIND not in (Kind.UP, Kind.END):
            raise click.BadParameter(f"{body.type_name()!r} cannot follow a request", context, option)
    return bodies


def parsed(text: str) -> Body:
    """The message in a JSON object with `type` and its fields. Raises BadParameter."""
    try:
        fields = json.loads(text)
        name = fields.pop("type")
    except (ValueError, AttributeError, KeyError, TypeError):
        example = '{"type": "recall", "text": "the key", "limit": 3}'
        raise click.BadParameter(f"{text!r} is not ping, hello, health or a message like '{example}'") from None
    if not isinstance(name, str) or name not in REGISTRY:
        raise click.BadParameter(f"there is no message {name!r}: ipc/PROTOCOL.md has them all in a table")
    if unknown := sorted(set(fields) - set(REGISTRY[name].__struct_fields__)):
        raise click.BadParameter(f"{name!r} has no field {unknown[0]!r}")
    try:
        return msgspec.convert(fields, REGISTRY[name])
    except msgspec.ValidationError as error:
        raise click.BadParameter(f"it is no {name!r}: {error}") from None


def _rid(context: click.Context, option: click.Parameter, value: str | None) -> bytes:
    try:
        rid = new_rid() if value is None else bytes.fromhex(value)
        return msgspec.convert(rid, Rid)
    except (ValueError, msgspec.ValidationError):
        raise click.BadParameter("an id has 32 hexadecimal digits", context, option) from None


@click.command()
@click.argument("daemon", type=click.Choice(DAEMONS))
@click.argument("message", nargs=-1, callback=_messages)
@click.option("--ttl", "ttl_ms", default=30_000, show_default=True, type=click.IntRange(1), help="Time for it, in ms.")
@click.option("--rid", callback=_rid, help="The id of the request; a new one if not given.")
@house_option
def probe(daemon: str, message: list[Body], ttl_ms: int, rid: bytes, house: House | None) -> None:
    """Ask one daemon one thing, see all that comes back.

    What comes back is printed as JSON, one object a line. MESSAGE is ping (answered by the work loop, so it proves more
    than a process), hello (who is there), health, or a request as JSON; the items that belong to it follow. `ms` counts
    from the moment the request was sent.

    \b
    timmy probe llm
    timmy probe memory health
    timmy probe memory '{"type": "recall", "text": "the key", "limit": 3}'
    timmy probe tts '{"type": "speak", "conversation": "home"}' '{"type": "clause", "text": "Hello."}'
    """
    asyncio.run(_probe(Client(daemon, "probe", house=house), message, ttl_ms, rid))


async def _probe(client: Client, bodies: Sequence[Body], ttl_ms: int, rid: bytes) -> None:
    began_ns = time.monotonic_ns()
    async with client:
        await client.wait_connected(ttl_ms / 1000)
        if not bodies:
            assert client.peer is not None
            _print(client.peer, began_ns)
            return
        began_ns = time.monotonic_ns()
        stream = client.open(bodies[0], rid=rid, ttl_ms=ttl_ms)
        sending = asyncio.create_task(_send(stream, bodies[1:]))
        async for item, payload in stream:
            _print(item, began_ns, payload)
        _print(await stream.result(), began_ns)
        await sending


async def _send(stream: Stream, items: Sequence[Body]) -> None:
    for item in items:
        if not isinstance(item, End):
            await stream.send(item)
    stream.end()


def _print(body: Body, began_ns: int, payload: bytes = b"") -> None:
    told: dict[str, Any] = {"ms": round((time.monotonic_ns() - began_ns) / 1e6, 3), **as_plain(body)}
    if payload:
        told["payload_bytes"] = len(payload)
    click.echo(printable_json(told))
