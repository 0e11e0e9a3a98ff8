"""The turns on the page of the browser tests, and how a person uses it."""

from __future__ import annotations

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from tests.support.browser import Browser
from tests.support.traces import DELAYS

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">\u2028<!--<script> & \"'"
KITCHEN = "kitchen </script><b>bold</b>"
WIDTHS = (1280, 768, 360)

HOME = 25

TURNS: list[dict[str, float]] = [
    *({"llm_first_token": 200.0 + 7 * number % 20, "unaccounted": number / 4} for number in range(HOME)),
    *({"llm_first_token": 400.0 + 7 * number % 20, "tts_synthesis": 90.3 + number} for number in range(25)),
]
"""Complete turns, in the order of time: the first HOME at home, the others in the kitchen."""

SESSIONS = 4
"""Those two, one of turns that are not complete, and one without a name: its only turn has no end, so no notes."""


def first_audio(delays: dict[str, float]) -> float:
    return sum({**DELAYS, **delays}.values())


def shown_ms(element: WebElement) -> float:
    return float(element.text.replace(",", "").removesuffix(" ms"))


def plain(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def total(browser: Browser) -> float:
    """First audio of the chosen turn, as its waterfall shows it."""
    return shown_ms(browser.one("#waterfall .sum .share"))


def select(browser: Browser, css: str) -> Select:
    return Select(browser.one(css))


def press(browser: Browser, *keys: str) -> None:
    actions = ActionChains(browser.driver)
    for key in keys:
        actions.send_keys(key)
    actions.perform()
