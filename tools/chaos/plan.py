"""A plan of misfortunes: a small TOML file, read and checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from daemons.orders import FAULTS, Fault
from ipc.errors import EXIT_NO_INPUT, EXIT_USAGE, TimmyError
from ipc.messages import REGISTRY
from tools.harness import HopFaults

Name = Literal["stt", "dialog", "llm", "memory", "tts"]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Chance = Annotated[float, Meta(ge=0, le=1)]


class PlanError(TimmyError):
    """The plan cannot be carried out as it is written."""

    exit_status = EXIT_USAGE


class _Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """`at`: seconds after the load began."""

    LASTS: ClassVar[bool] = True
    at: Seconds
    daemon: Name
    seconds: Seconds = 0.0

    def words(self) -> str:
        """For a person."""
        return f"{type(self).__struct_config__.tag} {self.daemon}"


class Kill(_Step, frozen=True, tag="kill"):
    """kill -9."""

    LASTS: ClassVar[bool] = False


class Stop(_Step, frozen=True, tag="stop"):
    """SIGSTOP, then SIGCONT."""


class BadHop(_Step, frozen=True, tag="hop"):
    """What the way to the daemon does to messages, as tools.harness.HopFaults."""

    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    jitter_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    drop: Chance = 0.0
    duplicate: Chance = 0.0
    reorder: Chance = 0.0
    corrupt: Chance = 0.0
    bytes_per_s: Annotated[float, Meta(ge=0)] = 0.0
    held: bool = False
    types: list[str] = []
    way: Literal["both", "to_daemon", "from_daemon"] = "both"

    def faults(self) -> HopFaults:
        given = {name: getattr(self, name) for name in HopFaults.__dataclass_fields__}
        return HopFaults(**{**given, "types": frozenset(self.types)})

    def words(self) -> str:
        told = [f"{name} {getattr(self, name):g}" for name in _HOP_NUMBERS if getattr(self, name)]
        return f"hop to {self.daemon}: {', '.join(told + ['held'] * self.held) or 'nothing'}"


_HOP_NUMBERS = ("delay_ms", "jitter_ms", "drop", "duplicate", "reorder", "corrupt", "bytes_per_s")


class Cut(_Step, frozen=True, tag="cut"):
    """The connections to the daemon break."""

    LASTS: ClassVar[bool] = False


class Limit(_Step, frozen=True, tag="limit"):
    """A running process may have only `room` more than it has: descriptors, or MB of address space."""

    what: Literal["descriptors", "memory"]
    room: Annotated[int, Meta(ge=0, le=100_000)] = 0

    def words(self) -> str:
        return f"limit {self.what} of {self.daemon}: {self.room} more"


class DiskFull(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", tag="disk_full"):
    """The disk with memories, journal and traces is full."""

    LASTS: ClassVar[bool] = True
    at: Seconds
    seconds: Seconds
    daemon: ClassVar[str] = ""

    def words(self) -> str:
        return "disk full"


class Clock(_Step, frozen=True, tag="clock"):
    """The daemon's wall clock is `step_s` off. Fakes only."""

    step_s: float

    def words(self) -> str:
        return f"clock of {self.daemon}: {self.step_s:+g} s"


class Engine(_Step, frozen=True, tag="engine"):
    """Orders for its engine, as daemons.orders.Orders. Fakes only."""

    fault: Fault = "none"
    after: Annotated[int, Meta(ge=0)] = 0
    slow_ms: Annotated[float, Meta(ge=0)] = 0.0

    def words(self) -> str:
        slow = [f"{self.slow_ms:g} ms slower"] if self.slow_ms else []
        return f"engine of {self.daemon}: {', '.join([self.fault] * (self.fault != 'none') + slow)}"


Step = Kill | Stop | BadHop | Cut | Limit | DiskFull | Clock | Engine


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`per_second` questions are asked, however slow the answers; `aloud`: each is spoken, too. One that takes longer
    than `patience_s` has failed."""

    per_second: Annotated[float, Meta(gt=0, le=50)] = 2.0
    aloud: bool = True
    patience_s: Annotated[float, Meta(gt=0, le=600)] = 10.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The load lasts `seconds`, or longer until all has recovered. What has not, `recover_s` after the end of a
    fault, has not recovered."""

    about: str
    seconds: Annotated[float, Meta(gt=0, le=86_400)]
    recover_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    load: Load = Load()
    fault: list[Step] = []

    @property
    def needs_fakes(self) -> list[Step]:
        return [step for step in self.fault if isinstance(step, Clock | Engine)]


def read(path: Path) -> Plan:
    """Raises PlanError."""
    try:
        plan = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Plan, strict=False)
    except OSError as error:
        unread = PlanError(f"{path}: {error.strerror}")
        unread.exit_status = EXIT_NO_INPUT
        raise unread from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PlanError(f"{path}: {_in_words(error)}; docs/chaos.md shows what a plan may say") from None
    for number, step in enumerate(plan.fault, 1):
        if wrong := _wrong(step, plan):
            raise PlanError(f"{path}: fault {number}: {wrong}")
    return plan


def _in_words(error: Exception) -> str:
    """Faults are counted from 1, as everywhere in a plan's messages; msgspec counts them from 0."""
    what, _, where = str(error).partition(" - at `$.")
    where = re.sub(r"fault\[(\d+)\]", lambda found: f"fault {int(found[1]) + 1}", where.rstrip("`"))
    return ": ".join([*where.split("."), what]) if where else what


def _wrong(step: Step, plan: Plan) -> str:
    if isinstance(step, Engine) and step.fault not in FAULTS[step.daemon]:
        return f"the engine of {step.daemon} knows no fault {step.fault!r}, only {', '.join(FAULTS[step.daemon])}"
    if step.LASTS and not step.seconds:
        return "say how long it lasts: seconds = 3"
    if not step.LASTS and step.seconds:
        return "it happens in a moment: leave `seconds` out"
    if isinstance(step, BadHop) and (unknown := sorted(set(step.types) - set(REGISTRY))):
        return f"there is no message {unknown[0]!r}: ipc/PROTOCOL.md has them all"
    return "" if step.at < plan.seconds else f"it would come after the end: the plan lasts {plan.seconds:g} s"
