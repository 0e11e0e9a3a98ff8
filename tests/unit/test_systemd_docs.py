"""What docs/systemd.md says of the journal is what the daemons send."""

from __future__ import annotations

import re
from pathlib import Path

from daemons import journald

ROOT = Path(__file__).parent.parent.parent


def test_every_message_id_is_listed_once() -> None:
    sent = [
        value for name, value in vars(journald).items() if name.isupper() and re.fullmatch("[0-9a-f]{32}", str(value))
    ]
    listed = re.findall(r"^\| `([0-9a-f]{32})`", (ROOT / "docs/systemd.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(sent)
    assert len(set(sent)) == len(sent)
