"""Makes the picture of the README from traces: `python -m tests.browser.picture FOLDER docs/report.png`."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tests.support.browser import chromium
from tools.cli import run

WIDTH, HEIGHT = 1240, 1150


def main() -> None:
    folder, picture = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        page = Path(temporary) / "report.html"
        status = run(["latency", "report", "--html", str(page), "--trace", folder])
        if status:
            sys.exit(status)
        browser.look(WIDTH, HEIGHT, prefers_color_scheme="light")
        browser.open(page)
        Path(picture).write_bytes(base64.b64decode(browser.driver.get_screenshot_as_base64()))


if __name__ == "__main__":
    main()
