"""`python -m daemons.dialog.faked ORDERS`: the dialog daemon, which has no engine, for tools/harness."""

from __future__ import annotations

import sys

from daemons.dialog.service import DialogService
from daemons.faked import run

if __name__ == "__main__":
    sys.exit(run("dialog", lambda book: DialogService))
