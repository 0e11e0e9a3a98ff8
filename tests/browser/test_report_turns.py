"""The report in a real browser: turns are picked, and their waterfalls read, against known truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.truth import (
    HOME,
    HOSTILE,
    KITCHEN,
    SESSIONS,
    TURNS,
    WIDTHS,
    first_audio,
    press,
    select,
    shown_ms,
    total,
)
from tests.support.browser import Browser
from tests.support.traces import DELAYS, House
from tools.cli import run
from tools.latency.stages import NAMES


def _chosen(browser: Browser) -> WebElement:
    (option,) = browser.all("#turn-list [aria-selected=true]")
    assert browser.one("#turn-list").get_attribute("aria-activedescendant") == option.get_attribute("id")
    return option


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("place", [4, 28, 29, 53])
def test_a_turn_is_picked_by_mouse_and_its_shares_make_the_whole(browser: Browser, width: int, place: int) -> None:
    browser.look(width)
    option = browser.all("#turn-list [role=option]")[place]
    option.click()
    assert _chosen(browser) == option
    truth = {**DELAYS, **TURNS[::-1][place - 4]}
    assert total(browser) == pytest.approx(sum(truth.values()), abs=0.051)
    shown = {name: shown_ms(browser.one(f"#waterfall [data-stage={name}] .share")) for name in NAMES}
    assert sum(shown.values()) == pytest.approx(total(browser), abs=1e-9)
    assert shown == pytest.approx(truth, abs=0.101)
    percents = [float(each.text) for each in browser.all("#waterfall [data-stage] > :last-child") if each.text]
    assert sum(percents[:-1]) == pytest.approx(percents[-1], abs=1e-9)
    assert f"{sum(truth.values()):,.0f} ms" in browser.one("#turn-title").text


def test_bars_lie_where_their_times_are(browser: Browser) -> None:
    browser.all("#turn-list [role=option]")[4].click()
    truth = {**DELAYS, **TURNS[-1]}
    total = sum(truth.values())
    for name, start in (("endpoint", 0.0), ("tts_synthesis", total - truth["tts_synthesis"] - truth["tts_playout"])):
        track = browser.one(f"#waterfall [data-stage={name}] .bar").rect
        bar = browser.one(f"#waterfall [data-stage={name}] .part").rect
        assert bar["x"] - track["x"] == pytest.approx(start / total * track["width"], abs=2)
        assert bar["width"] == pytest.approx(truth[name] / total * track["width"], abs=2)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_is_walked_through_by_keyboard(browser: Browser, width: int) -> None:
    browser.look(width)
    listbox = browser.one("#turn-list")
    browser.run("arguments[0].focus()", browser.one("#turn-order"))
    press(browser, Keys.TAB)
    assert browser.driver.switch_to.active_element == listbox
    assert browser.run("return getComputedStyle(arguments[0]).outlineStyle", listbox) == "solid"
    options = browser.all("#turn-list [role=option]")
    for key, place in (
        (Keys.HOME, 0),
        (Keys.ARROW_DOWN, 1),
        (Keys.ARROW_DOWN, 2),
        (Keys.ARROW_UP, 1),
        (Keys.PAGE_DOWN, 9),
        (Keys.END, len(options) - 1),
        (Keys.ARROW_DOWN, len(options) - 1),
        (Keys.HOME, 0),
        (Keys.ARROW_UP, 0),
    ):
        press(browser, key)
        assert _chosen(browser) == options[place]
        option, box = options[place].rect, listbox.rect
        assert box["y"] - 1 <= option["y"]
        assert option["y"] + option["height"] <= box["y"] + box["height"] + 1
        assert (
            options[place].find_element("css selector", "b").text.removesuffix(" ms") in browser.one("#turn-title").text
        )


def test_the_list_is_filtered_and_ordered(browser: Browser) -> None:
    session = select(browser, "#turn-session")
    assert len(session.options) == 1 + SESSIONS
    session.select_by_index(SESSIONS)
    assert browser.one("#turn-count").text == f"{HOME} turns in the list"
    select(browser, "#turn-order").select_by_value("slowest")
    shown = [shown_ms(each) for each in browser.all("#turn-list b")]
    assert shown == pytest.approx(sorted(map(first_audio, TURNS[:HOME]), reverse=True), abs=0.51)
    assert total(browser) == pytest.approx(max(map(first_audio, TURNS[:HOME])), abs=0.051)
    session.select_by_index(0)
    assert browser.one("#turn-count").text == "54 turns in the list"


def test_turns_without_a_sound_are_told_from_others(browser: Browser) -> None:
    texts = [option.text for option in browser.all("#turn-list [role=option]")[:4]]
    assert [text.split(" · ")[1].split("\n")[0] for text in texts] == ["unfinished", "cancelled", "failed", "typed"]
    assert all("no sound" in text for text in texts[:3])
    newest_with_sound = next(each for each in browser.all("#turn-list [role=option]") if "no sound" not in each.text)
    assert _chosen(browser) == newest_with_sound
    browser.all("#turn-list [role=option]")[0].click()
    assert browser.one("#turn-title").text.endswith("no sound")
    assert browser.all("#waterfall .sum") == []


def test_the_whole_turn_is_shown_when_asked_for(browser: Browser) -> None:
    browser.all("#turn-list [role=option]")[4].click()
    assert browser.all("#waterfall [data-stage=utterance]") == []
    browser.one("#turn-whole").click()
    names = [row.get_attribute("data-stage") for row in browser.all("#waterfall [data-stage]")]
    assert names == ["utterance", "endpoint", "transcription", *NAMES[1:], "storing", "speaking", "total"]
    bars = [
        browser.one(f"#waterfall [data-stage={name}] .part").rect["x"] for name in ("utterance", "endpoint", "speaking")
    ]
    assert bars == sorted(bars)


def test_words_from_outside_stay_words(browser: Browser) -> None:
    option = browser.all("#turn-list [role=option]")[4]
    option.click()
    assert browser.run("return arguments[0].querySelector('small').textContent", option) == f"“{HOSTILE}”"
    facts = browser.one("#turn-facts").text
    assert KITCHEN in facts
    assert "resumed at −1,200 ms, revoked revision 0 at −1,200 ms" in facts
    assert browser.all("img, #turn-facts b, #session-table b") == []


def test_work_within_the_silence_is_faint(window: Browser, tmp_path: Path) -> None:
    """It takes time, and has no share."""
    with House(tmp_path / "trace") as house:
        house.turn(held=True)
    path = tmp_path / "page.html"
    assert run(["latency", "report", "--html", str(path), "--trace", str(tmp_path / "trace")]) == 0
    window.look()
    window.open(path)
    assert window.one("#turn-pale").is_displayed()
    (faint,) = window.all("#waterfall [data-stage=recall] .pale")
    silence = window.one("#waterfall [data-stage=endpoint] .part").rect
    assert silence["x"] <= faint.rect["x"]
    assert faint.rect["x"] + faint.rect["width"] <= silence["x"] + silence["width"] + 1
    cells = window.all("#waterfall [data-stage=recall] [role=cell]")
    assert [cell.text for cell in cells[2:]] == [f"{DELAYS['recall']:.1f}", "0.0", "0.0"]
    shares = [shown_ms(window.one(f"#waterfall [data-stage={name}] .share")) for name in NAMES]
    assert sum(shares) == pytest.approx(total(window), abs=1e-9)
    assert window.complaints() == []
