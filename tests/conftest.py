"""Settings for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# No test depends on how fast the machine is: Hypothesis would fail an example over 200 ms.
settings.register_profile("timmy", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("timmy")


# A shell without job control starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


_REAL_TIME = ("browser", "campaigns", "chaos", "perf", "rooms", "socket", "units")
"""Folders of tests in which real processes keep real times, on a machine that may give them no core for a second."""

_TOLD_CHARS = 3000
"""Of each failure that did not last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Such a test may fail once; the summary names it (RERUN), and one that is named often has a fault."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in _REAL_TIME:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test failed of that was tried again: nothing else tells."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"tried again: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext[-_TOLD_CHARS:])


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """A file of tests at a time. When a worker has crashed, the files that it had finished would be given out again, as
    nothing to do, and a worker that gets nothing to do never asks for more: the run would not end."""

    def remove_node(self, node: WorkerController) -> str | None:
        given = self.assigned_work[node]
        self.assigned_work[node] = {file: tests for file, tests in given.items() if not all(tests.values())}
        crashed: str | None = super().remove_node(node)
        return crashed


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling | None:
    return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With SKIPS_FAIL set a skipped test is a failed one: what is not tested is not known to work."""
    if report.skipped and os.environ.get("SKIPS_FAIL"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed here: {_reason(report.longrepr)}"


def _reason(longrepr: Any) -> str:
    return longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
