"""`make fuzz`, `make chaos`: python -m tests.campaigns [NAME...] [--times N | --count N | --long] [--seed N]

Runs campaigns and prints a row for each. A codec input that fails is put into the corpus.
"""

from __future__ import annotations

import sys
import time

import click

from tests.campaigns import codec
from tests.campaigns.book import CAMPAIGNS, CHAOS, FUZZ
from tests.campaigns.codec import Broken

GROUPS = {"fuzz": tuple(FUZZ), "chaos": tuple(CHAOS)}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*GROUPS, *CAMPAIGNS]))
@click.option("--times", default=1.0, show_default=True, type=float, help="How often what the tests run.")
@click.option("--count", type=click.IntRange(1), help="How often, as a number.")
@click.option("--long", is_flag=True, help="As often as a long run does.")
@click.option("--seed", type=int, help="As printed by an earlier run; another one each time if not given.")
def main(names: tuple[str, ...], times: float, count: int | None, long: bool, seed: int | None) -> None:
    """Try promises against random inputs and random misfortunes; without NAMES, all of them."""
    seed = time.time_ns() % 2**32 if seed is None else seed
    click.echo("| campaign | seed | tried | seconds |\n|---|---|---|---|")
    for name in dict.fromkeys(each for given in names or GROUPS for each in GROUPS.get(given, (given,))):
        campaign = CAMPAIGNS[name]
        number = campaign.long if long else count or max(1, round(campaign.count * times))
        click.echo(f"{name}, seed {seed}, {number:,} times", err=True)  # whatever becomes of it
        began = time.monotonic()
        try:
            found = campaign.run(number, seed)
        except Broken as broken:
            click.echo(f"{name}, seed {seed}: {broken}\nkept as {codec.keep(broken.frames, f'seed-{seed}')}", err=True)
            sys.exit(1)
        tried = ", ".join(f"{each:,} {what}" for what, each in found.items())
        click.echo(f"| {name} | {seed} | {tried} | {time.monotonic() - began:.0f} |")


if __name__ == "__main__":
    main()
