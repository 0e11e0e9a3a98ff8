"""What commands have in common when they show something: JSON for programs, tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from ipc.text import printable, printable_json

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    """One document."""
    click.echo(printable_json(value, indent=2))


_NARROWEST = 8
"""Characters of a cell that stay in one line however narrow the terminal is: three-letter columns nobody can read."""

_GAP = 2


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table as wide as the terminal, which breaks the lines itself where that is too narrow for any table; as wide as
    need be when it goes to a file."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    rows = list(rows)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=400)
    columns = zip(titles, *rows, strict=True)
    least = sum(min(_NARROWEST, max(map(cell_len, cells))) for cells in columns) + _GAP * (len(titles) - 1)
    console.width = max(console.width, least)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    console.print(table, soft_wrap=False)


def human_bytes(count: int) -> str:
    """Decimal units, as networks and disks are sold."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(printable(text))
