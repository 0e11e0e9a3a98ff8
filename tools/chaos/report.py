"""What a run found, for people and for programs."""

from __future__ import annotations

from typing import Any

import click

from tools.chaos.plan import Plan
from tools.chaos.record import Applied, Question, Record, problems
from tools.latency.statistics import quantile
from tools.show import print_json, print_table


def failed_by(applied: Applied, record: Record) -> list[Question]:
    """Questions that failed and were under way during a fault, or before all was well after it, and during no fault
    that came earlier."""

    def under(each: Applied, question: Question) -> bool:
        return question.ended_s >= each.began_s and question.asked_s <= each.ended_s + (each.recovered_s or 0.0)

    found = []
    for question in record.questions:
        if question.outcome != "done":
            first = next((each for each in record.applied if under(each, question)), None)
            found += [question] if first is applied else []
    return found


def as_json(plan: Plan, record: Record) -> dict[str, Any]:
    """Times in seconds after the load began, unless they are named otherwise."""
    return {
        "about": plan.about,
        "seconds": record.seconds,
        "questions": _figures(record),
        "faults": [_fault(each, record) for each in record.applied],
        "deaths": [{"daemon": d.daemon, "pid": d.pid, "at_s": d.at_s} for d in record.deaths],
        "silences": [{"daemon": s.daemon, "from_s": s.from_s, "to_s": s.to_s} for s in record.silences],
        "grown_mb": {daemon: round(grown / 1e6, 1) for daemon, grown in record.grown.items()},
        "unseen_messages": record.unseen,
        "problems": problems(record, plan.recover_s),
    }


def _figures(record: Record) -> dict[str, Any]:
    times = [(q.ended_s - q.asked_s) * 1000 for q in record.questions if q.outcome == "done"]
    figures: dict[str, Any] = {"asked": len(record.questions), "answered": len(times)}
    if times:
        figures |= {"p50_ms": round(quantile(times, 0.5)), "p95_ms": round(quantile(times, 0.95))}
    return figures


def _fault(applied: Applied, record: Record) -> dict[str, Any]:
    failed = failed_by(applied, record)
    return {
        "fault": applied.step.words(),
        "began_s": applied.began_s,
        "ended_s": applied.ended_s,
        "failed_questions": len(failed),
        "first_failure": failed[0].detail if failed else "",
        "ready_after_s": _since(applied, applied.ready_s),
        "answered_after_s": _since(applied, applied.answered_s),
        "trouble": applied.trouble,
    }


def _since(applied: Applied, at_s: float | None) -> float | None:
    return None if at_s is None else round(at_s - applied.ended_s, 3)


def show(plan: Plan, record: Record) -> None:
    """For a person."""
    told = as_json(plan, record)
    rows = [
        [
            fault["fault"],
            f"{fault['began_s']:.1f}",
            f"{fault['ended_s'] - fault['began_s']:.1f}",
            str(fault["failed_questions"]),
            _seconds(fault["ready_after_s"]),
            _seconds(fault["answered_after_s"]),
            fault["trouble"] or fault["first_failure"],
        ]
        for fault in told["faults"]
    ]
    print_table(["fault", "at s", "for s", "failed", "ready after s", "answer after s", "the first failure"], rows)
    click.echo(
        "ready, answer: after the end of the fault, all daemons ready, and a question answered that was asked since\n"
    )
    figures = told["questions"]
    times = f", {figures['p50_ms']} ms (p50), {figures['p95_ms']} ms (p95)" if "p50_ms" in figures else ""
    click.echo(f"{figures['answered']} of {figures['asked']} questions answered in {record.seconds:.0f} s{times}")
    for silence in record.silences:
        click.echo(f"{silence.daemon} said nothing from {silence.from_s:.1f} to {silence.to_s:.1f} s")
    for death in record.deaths:
        click.echo(f"{death.daemon} (process {death.pid}) died at {death.at_s:.1f} s")
    grown = max(told["grown_mb"].items(), key=lambda item: item[1], default=("", 0))
    click.echo(f"most memory gained: {grown[0]}, {grown[1]} MB")
    if record.unseen:
        click.echo(f"{record.unseen} messages were not seen: whether every request had its end is not known")
    click.echo()
    for line in told["problems"]:
        click.echo(f"BROKEN: {line}")
    if not told["problems"]:
        click.echo("all recovered, and every promise was kept")


def print_report(plan: Plan, record: Record, as_program: bool) -> None:
    if as_program:
        print_json(as_json(plan, record))
    else:
        show(plan, record)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"
