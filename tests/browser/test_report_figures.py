"""The report in a real browser: its figures, its plots and its comparisons, against known truth."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.truth import (
    HOME,
    SESSIONS,
    TURNS,
    first_audio,
    plain,
    press,
    select,
    shown_ms,
    total,
)
from tests.support.browser import Browser
from tests.support.traces import DELAYS, House
from tools.cli import run
from tools.latency.stages import NAMES


def test_the_headline_is_that_of_all_complete_turns(browser: Browser) -> None:
    totals = [first_audio(delays) for delays in TURNS]
    median, ninety, turns = (shown_ms(each) for each in browser.run(_FIGURES))
    assert median == round(statistics.median(totals))
    assert ninety == round(float(np.quantile(totals, 0.9)))
    assert turns == len(TURNS)
    text = browser.one("#headline").text
    assert "in 4 sessions; apart from" in text
    assert {f"1 {kind}" for kind in ("typed", "failed", "cancelled", "unfinished")} <= _parts(text)
    shares = [float(each.text.removesuffix(" %")) for each in browser.all("#headline .legend li > :last-child")]
    assert len(shares) == len(NAMES)
    assert sum(shares) == pytest.approx(100.0, abs=1e-9)


_FIGURES = """
return [...document.querySelectorAll("#headline .figures b")].map((each) => {
  each.querySelector("span").remove();
  return each;
});
"""


def _parts(text: str) -> set[str]:
    return {part.strip() for line in text.splitlines() for part in line.replace("apart from", ",").split(",")}


def test_what_is_missing_is_told_first(browser: Browser) -> None:
    losses = browser.one("#losses")
    assert losses.is_displayed()
    assert "7 marks were lost" in losses.text
    assert "00000000000000000001-stt.marks: not a file of trace marks" in losses.text
    assert losses.location["y"] < browser.one("#turns").location["y"]


def test_stages_are_those_of_all_complete_turns(browser: Browser) -> None:
    for row, name in zip(browser.all("#stage-table tbody tr"), [*NAMES, "first audio"], strict=True):
        heading, n, mean, p50, p90, p95, p99, largest, share, *_ = (
            cell.text for cell in row.find_elements("css selector", "th, td")
        )
        values = [{**DELAYS, **turn}.get(name, first_audio(turn)) for turn in TURNS]
        digits = 0 if name == "first audio" else 1
        assert heading == name
        assert n == str(len(TURNS))
        expected = [statistics.fmean(values), *np.quantile(values, (0.5, 0.9, 0.95)), max(values)]
        shown = [float(each.replace(",", "")) for each in (mean, p50, p90, p95, largest)]
        assert shown == pytest.approx(expected, abs=0.51 * 10**-digits)
        assert p99 == "–"
        assert float(share.removesuffix(" %")) == pytest.approx(
            100 * sum(values) / sum(map(first_audio, TURNS)), abs=0.051
        )
    assert "p99 needs 200" in browser.one("#stages-hint").text


def test_a_distribution_is_read_by_keyboard_and_pointer(browser: Browser) -> None:
    select(browser, "#curve-stage").select_by_value("llm_first_token")
    values = [{**DELAYS, **turn}["llm_first_token"] for turn in TURNS]

    def reading() -> tuple[float, float]:
        said = browser.one("#curve [role=slider]").get_attribute("aria-valuetext") or ""
        percent, within, _ = re.split(r" % within | ms", said.replace(",", ""))
        return float(percent), float(within)

    assert reading()[0] == 50
    assert reading()[1] == pytest.approx(np.quantile(values, 0.5), abs=0.06)
    browser.run("arguments[0].focus()", browser.one("#curve svg"))
    press(browser, Keys.ARROW_RIGHT, Keys.PAGE_UP)
    assert reading()[0] == 61
    assert reading()[1] == pytest.approx(np.quantile(values, 0.61), abs=0.06)
    press(browser, Keys.END)
    assert reading() == (100, max(values))
    ActionChains(browser.driver).move_to_element_with_offset(browser.one("#curve svg"), 0, 0).perform()
    percent, pointed = reading()
    assert 0 < percent < 100
    assert min(values) < pointed < max(values)


def test_a_dot_of_the_trend_is_a_turn(browser: Browser) -> None:
    select(browser, "#turn-session").select_by_index(SESSIONS)
    dots = browser.all("#trend-plot .dot")
    assert len(dots) == len(TURNS)
    ActionChains(browser.driver).scroll_to_element(dots[34]).click(dots[34]).perform()
    assert total(browser) == pytest.approx(first_audio(TURNS[34]), abs=0.051)
    assert browser.one("#turn-count").text == "54 turns in the list"
    (chosen,) = browser.all("#trend-plot .dot.chosen")
    assert chosen == browser.all("#trend-plot .dot")[34]
    assert len(browser.all("#trend-plot .session")) == 2


def test_a_session_is_opened_from_its_row(browser: Browser) -> None:
    rows = browser.all("#session-table tbody tr")
    assert [row.find_elements("css selector", "td")[1].text for row in rows] == [
        "1",
        "3",
        str(len(TURNS) - HOME),
        str(HOME),
    ]
    medians = [row.find_elements("css selector", "td")[3].text for row in rows]
    assert medians[:2] == ["–", "–"]
    truth = [statistics.median(map(first_audio, part)) for part in (TURNS[HOME:], TURNS[:HOME])]
    assert list(map(plain, medians[2:])) == pytest.approx(truth, abs=0.51)
    button = rows[2].find_element("css selector", "button")
    ActionChains(browser.driver).scroll_to_element(button).click(button).perform()
    assert browser.one("#turn-count").text == f"{len(TURNS) - HOME} turns in the list"
    assert browser.driver.switch_to.active_element == browser.one("#turn-list")


def _pair(browser: Browser) -> dict[str, list[str]]:
    """The cells of each row of the comparison, but for the picture."""
    rows = browser.all("#compare-table tbody tr")
    cells = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
    return {name: rest[:-1] for name, *rest in cells}


def test_two_halves_are_compared_with_intervals(browser: Browser) -> None:
    before, after = TURNS[:HOME], TURNS[HOME:]
    assert select(browser, "#compare-a").first_selected_option.text == "earlier half (25 turns)"
    assert select(browser, "#compare-b").first_selected_option.text == "later half (25 turns)"
    rows = _pair(browser)
    assert list(rows) == [*NAMES, "first audio"]
    for name, (a, b, difference, interval, _, _, verdict) in rows.items():
        of = [[{**DELAYS, **turn}.get(name, first_audio(turn)) for turn in part] for part in (before, after)]
        medians = [statistics.median(values) for values in of]
        assert [plain(a), plain(b)] == pytest.approx(medians, abs=0.051)
        assert plain(difference) == pytest.approx(medians[1] - medians[0], abs=0.051)
        low, high = (plain(end) for end in interval.split(" to "))
        assert low <= plain(difference) <= high
        assert verdict in ("faster", "slower", "no difference", "undecided")
        assert (low > 0, high < 0) == (verdict == "slower", verdict == "faster") or verdict == "no difference"
    assert rows["recall"][-1] == "no difference"
    assert rows["llm_first_token"][-1] == "slower"
    assert browser.one("#compare-answer").text.startswith("B is slower: ")


def test_sessions_are_compared_from_the_lists(browser: Browser) -> None:
    a = select(browser, "#compare-a")
    a.select_by_visible_text(next(each.text for each in a.options if "home" in each.text))
    b = select(browser, "#compare-b")
    assert ["kitchen" in each.text for each in b.options] == [True]
    medians = [statistics.median(map(first_audio, part)) for part in (TURNS[:HOME], TURNS[HOME:])]
    assert [plain(text) for text in _pair(browser)["first audio"][:2]] == pytest.approx(medians, abs=0.051)
    assert _pair(browser)["first audio"][-1] == "slower"


def test_a_pair_without_intervals_says_so(window: Browser, tmp_path: Path) -> None:
    with House(tmp_path / "trace") as house:
        for recall in (8.0, 9.0, 10.0, 11.0, 12.0, 29.0, 30.0, 31.0, 32.0, 33.0):
            house.turn({"recall": recall})
    path = tmp_path / "page.html"
    assert run(["latency", "report", "--html", str(path), "--trace", str(tmp_path / "trace")]) == 0
    window.look()
    window.open(path)
    assert window.one("#compare-answer").text.startswith("Plain differences: ")
    assert _pair(window)["recall"] == ["10.0", "31.0", "+21.0", "–", "–", "–", "–"]
    assert window.all("#compare-table .interval") == []
    assert window.complaints() == []
