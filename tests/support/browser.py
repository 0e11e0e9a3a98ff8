"""A real Chromium without a window, told by WebDriver what a person would do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
"""Debian's packages chromium and chromium-driver, of one version."""


class Browser:
    """One window. `width` and `height` are those of the page, in CSS pixels."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def look(self, width: int = 1280, height: int = 900, **media: str) -> None:
        """As a screen of this size; `media` are features as `prefers_color_scheme="dark"`, or `media="print"`.

        Nothing moves by default: a click would miss what is still being scrolled to."""
        media = {"prefers_reduced_motion": "reduce", **media}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._tell("Emulation.setDeviceMetricsOverride", size)
        kind = media.pop("media", "")
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self._tell("Emulation.setEmulatedMedia", {"media": kind, "features": features})

    def open(self, path: Path) -> None:
        self.complaints()
        self.requests()
        self.driver.get(path.as_uri())

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function with this body returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the console has said since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since the last call, answered or not."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))  # type: ignore[no-untyped-call]

    def _tell(self, command: str, parameters: Mapping[str, Any]) -> None:
        self.driver.execute_cdp_cmd(command, dict(parameters))


@contextmanager
def chromium() -> Iterator[Browser]:
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    # The sandbox needs what neither root nor a container has. The pages are this project's own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
