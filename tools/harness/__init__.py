"""Daemons to try things on: started alone or together, talked to, and broken. docs/harness.md shows how."""

from daemons.orders import FAULTS, Orders
from tools.harness.daemon import Daemon
from tools.harness.house import House
from tools.harness.place import HarnessError, Place
from tools.harness.proxy import NO_FAULTS, Hop, HopFaults
from tools.harness.talk import Line, Open, Reply, ask

__all__ = [
    "FAULTS",
    "NO_FAULTS",
    "Daemon",
    "HarnessError",
    "Hop",
    "HopFaults",
    "House",
    "Line",
    "Open",
    "Orders",
    "Place",
    "Reply",
    "ask",
]
