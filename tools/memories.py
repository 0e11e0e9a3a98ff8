"""`timmy memory`: what is remembered, to see and to erase."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import click
import msgspec

from ipc.client import Client
from ipc.limits import LIST_MAX_ITEMS
from ipc.messages import Forget, Forgotten, ListMemories, Memory, MemoryPage
from tools.show import json_option, print_json, print_table

FORGET_MS = 30_000
"""Forgetting rewrites what the disk holds of it."""


@click.group()
def memory() -> None:
    """See and erase what is remembered.

    \b
    timmy memory list
    timmy memory forget 12 15
    """


@memory.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List all memories, oldest first.

    \b
    timmy memory list --json
    """
    found = asyncio.run(_list())
    if as_json:
        print_json([msgspec.to_builtins(entry) for entry in found])
    elif found:
        print_table(["id", "told", "importance", "text"], [_row(entry) for entry in found])
    else:
        click.echo("nothing is remembered", err=True)


class _Id(click.IntRange):
    """A memory's number."""

    name = "id, as `timmy memory list` shows it"


@memory.command()
@click.argument("ids", type=_Id(min=1), nargs=-1, required=True)
def forget(ids: tuple[int, ...]) -> None:
    """Erase memories for good, by the ids that the list shows.

    \b
    timmy memory forget 12 15
    """
    count = asyncio.run(_forget(ids))
    click.echo(f"forgotten: {count} of {len(set(ids))}")


def _row(entry: Memory) -> list[str]:
    told = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created_s))
    return [str(entry.id), told, str(entry.importance), entry.text]


async def all_memories(client: Client) -> AsyncIterator[Memory]:
    """Page by page, in the order of their ids."""
    after_id = 0
    while True:
        page = await client.request(ListMemories(after_id=after_id))
        assert isinstance(page, MemoryPage)
        if not page.memories:
            return
        for entry in page.memories:
            yield entry
        after_id = page.memories[-1].id


async def _list() -> list[Memory]:
    async with Client("memory", "timmy") as client:
        return [entry async for entry in all_memories(client)]


async def _forget(ids: tuple[int, ...]) -> int:
    wanted, count = sorted(set(ids)), 0
    async with Client("memory", "timmy") as client:
        for start in range(0, len(wanted), LIST_MAX_ITEMS):
            reply = await client.request(Forget(ids=wanted[start : start + LIST_MAX_ITEMS]), ttl_ms=FORGET_MS)
            assert isinstance(reply, Forgotten)
            count += reply.count
    return count
