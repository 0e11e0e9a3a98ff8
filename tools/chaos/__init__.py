"""`timmy chaos`: the suite under a plan of misfortunes, and what becomes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from tools.show import json_option


@click.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--engines",
    type=click.Choice(["fake", "real"]),
    default="fake",
    show_default=True,
    help="Fakes answer at once and know nothing; real ones are those of your configuration.",
)
@json_option
def chaos(plan: Path, engines: Literal["fake", "real"], as_json: bool) -> None:
    """Break the daemons by a plan, see what recovers.

    PLAN is a TOML file; docs/chaos.md explains it, examples/chaos/ has some. The five daemons are others than those
    that may be running, in a folder of their own. They are asked questions all the time while the faults come and go.

    Exit status 1 when something did not recover, a request had no end or two, a daemon was blocked for over 1 s, died
    without being killed, or grew by over 50 MB.

    \b
    timmy chaos examples/chaos/kills.toml
    timmy chaos examples/chaos/bad-hop.toml --json
    """
    from tools.chaos.plan import PlanError, read
    from tools.chaos.record import problems
    from tools.chaos.report import print_report
    from tools.chaos.run import carry_out

    checked = read(plan)
    if engines == "real" and (steps := checked.needs_fakes):
        raise PlanError(f"{plan}: {steps[0].words()}: only fake engines take such orders; leave --engines real out")

    def tell(at_s: float, line: str) -> None:
        click.echo(f"{at_s:6.1f} s  {line}", err=True)

    record = carry_out(checked, engines, tell)
    print_report(checked, record, as_json)
    sys.exit(1 if problems(record, checked.recover_s) else 0)
