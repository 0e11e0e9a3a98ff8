"""Known vulnerabilities of what is installed: python -m tests.support.audit [LOCK...]. `make audit` runs it.

pip-audit asks OSV (osv.dev) about each version in the lock files. Exit status 0: none is known, or OSV cannot be
reached, which is said. 1: one is known. 2: the question could not be put.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

OSV = "https://api.osv.dev/v1/query"
TIMEOUT_S = 10.0
ROOT = Path(__file__).parent.parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-dev.lock")

_TRIAL = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "1"}


def audit(locks: Sequence[Path] = LOCKS, osv: str = OSV) -> tuple[int, str]:
    """The exit status, and what there is to say. `osv`: where to ask."""
    if unreachable := _unreachable(osv):
        return 0, f"not audited: {osv} cannot be reached ({unreachable}); try again with a network"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--osv-url", osv]
        command += ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--cache-dir", folder]
        command += ["--format", "json", "--output", str(report)]
        for lock in locks:
            command += ["--requirement", str(lock)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.exists():
            return 2, f"not audited: pip-audit ended with {ran.returncode}: {ran.stderr.strip()}"
        packages = json.loads(report.read_text("utf-8"))["dependencies"]
    known = sorted(set(_known(packages)))
    asked = sum("skip_reason" not in package for package in packages)
    if known:
        return 1, "\n".join([f"{len(known)} known vulnerabilities in {asked} packages:", *known])
    if asked < len(packages):
        return 2, f"not audited: {len(packages) - asked} of {len(packages)} packages could not be asked about"
    return 0, f"{asked} packages, no known vulnerability"


def _unreachable(osv: str) -> str:
    """Why no answer can be had there; empty: it can."""
    request = urllib.request.Request(osv, json.dumps(_TRIAL).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            json.load(answer)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def _known(packages: Sequence[dict[str, Any]]) -> Iterator[str]:
    for package in packages:
        for each in package.get("vulns", ()):
            fixed = ", ".join(each["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {each['id']}, mended in {fixed}"


if __name__ == "__main__":
    status, said = audit([Path(lock) for lock in sys.argv[1:]] or LOCKS)
    print(said)
    sys.exit(status)
