"""`make bench`: runs every benchmark and puts what it printed into the README, between the two marks."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

from tools.bench import BENCHES

README = Path(__file__).parent.parent.parent / "README.md"
BEGIN, END = "<!-- figures: written by make bench -->\n", "<!-- end of figures -->"


def main() -> None:
    """Raises CalledProcessError when a benchmark fails; the README then stays as it was."""
    blocks = [f"On {_machine()}, {time.strftime('%-d %B %Y')}:\n"]
    for name, lazy in BENCHES.items():
        command = [sys.executable, "-m", "tools.cli", "bench", name]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        printed = "\n".join(line.rstrip() for line in result.stdout.rstrip().splitlines())
        print(f"{lazy.help}\n{printed}\n", flush=True)
        blocks.append(f"`timmy bench {name}` · {lazy.help}\n\n```\n{printed}\n```\n")
    README.write_text(_between(README.read_text("utf-8"), "\n".join(blocks)), "utf-8")


def _machine() -> str:
    """Processor, cores, system and Python."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    processor = found.group(1) if found else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def _between(text: str, fresh: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + fresh + END + rest.partition(END)[2]


if __name__ == "__main__":
    main()
