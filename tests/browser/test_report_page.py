"""The page of `timmy latency report` in a real browser: what a person sees, clicks and types, against known truth."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from ipc.marks import Stage
from tests.support.browser import Browser, chromium
from tests.support.traces import DELAYS, House
from tools.cli import run
from tools.latency.stages import NAMES

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">\u2028<!--<script> & \"'"
KITCHEN = "kitchen </script><b>bold</b>"
WIDTHS = (1280, 768, 360)

TURNS: list[dict[str, float]] = [
    *({"llm_first_token": 200.0 + 7 * number % 20, "unaccounted": number / 4} for number in range(30)),
    *({"llm_first_token": 400.0 + 7 * number % 20, "tts_synthesis": 90.3 + number} for number in range(20)),
]
"""Complete turns, in the order of time: the first 30 at home, the others in the kitchen."""

SESSIONS = 4
"""Those two, one of turns that are not complete, and one without a name: its only turn has no end, so no notes."""


def _first_audio(delays: dict[str, float]) -> float:
    return sum({**DELAYS, **delays}.values())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with House(folder / "trace") as house:
        for delays in TURNS[:30]:
            house.turn(delays)
        house.now_ns += 3600 * 10**9
        for number, delays in enumerate(TURNS[30:]):
            house.turn(delays, conversation=KITCHEN, heard=HOSTILE if number == 19 else "", attempts=1 + (number == 19))
        house.now_ns += 3600 * 10**9
        house.turn(typed=True, conversation="desk")
        house.turn(until=Stage.MODEL_SENT, outcome="failed", conversation="desk")
        house.turn(until=Stage.MODEL_SENT, outcome="cancelled", conversation="desk")
        house.turn(until=Stage.HEARD, outcome="", conversation="desk")
        house.lose("llm", 7)
    (folder / "trace" / "00000000000000000001-stt.marks").write_bytes(b"this is no trace")
    path = folder / "report.html"
    assert run(["latency", "report", "--html", str(path), "--trace", str(folder / "trace")]) == 0
    return path


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def browser(window: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened. Whatever a test does there, nothing is fetched and nothing goes wrong."""
    window.look()
    window.open(page)
    yield window
    assert window.complaints() == []
    assert set(window.requests()) == {page.as_uri()}
    assert window.driver.title == "Timmy: where the time of turns went"


def _chosen(browser: Browser) -> WebElement:
    (option,) = browser.all("#turn-list [aria-selected=true]")
    assert browser.one("#turn-list").get_attribute("aria-activedescendant") == option.get_attribute("id")
    return option


def _shown_ms(element: WebElement) -> float:
    return float(element.text.replace(",", "").removesuffix(" ms"))


def _total(browser: Browser) -> float:
    """First audio of the chosen turn, as its waterfall shows it."""
    return _shown_ms(browser.one("#waterfall .sum .share"))


def _select(browser: Browser, css: str) -> Select:
    return Select(browser.one(css))


def _press(browser: Browser, *keys: str) -> None:
    actions = ActionChains(browser.driver)
    for key in keys:
        actions.send_keys(key)
    actions.perform()


def test_the_headline_is_that_of_all_complete_turns(browser: Browser) -> None:
    totals = [_first_audio(delays) for delays in TURNS]
    median, ninety, turns = (_shown_ms(each) for each in browser.run(_FIGURES))
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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("place", [4, 5, 23, 24, 53])
def test_a_turn_is_picked_by_mouse_and_its_shares_make_the_whole(browser: Browser, width: int, place: int) -> None:
    browser.look(width)
    option = browser.all("#turn-list [role=option]")[place]
    option.click()
    assert _chosen(browser) == option
    truth = {**DELAYS, **TURNS[::-1][place - 4]}
    assert _total(browser) == pytest.approx(sum(truth.values()), abs=0.051)
    shown = {name: _shown_ms(browser.one(f"#waterfall [data-stage={name}] .share")) for name in NAMES}
    assert sum(shown.values()) == pytest.approx(_total(browser), abs=1e-9)
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
    _press(browser, Keys.TAB)
    assert browser.driver.switch_to.active_element == listbox
    assert browser.run("return getComputedStyle(arguments[0]).outlineStyle", listbox) == "solid"
    options = browser.all("#turn-list [role=option]")
    for key, place in (
        (Keys.ARROW_DOWN, 1),
        (Keys.ARROW_DOWN, 2),
        (Keys.ARROW_UP, 1),
        (Keys.PAGE_DOWN, 9),
        (Keys.END, len(options) - 1),
        (Keys.ARROW_DOWN, len(options) - 1),
        (Keys.HOME, 0),
        (Keys.ARROW_UP, 0),
    ):
        _press(browser, key)
        assert _chosen(browser) == options[place]
        option, box = options[place].rect, listbox.rect
        assert box["y"] - 1 <= option["y"]
        assert option["y"] + option["height"] <= box["y"] + box["height"] + 1
        assert (
            options[place].find_element("css selector", "b").text.removesuffix(" ms") in browser.one("#turn-title").text
        )


def test_the_list_is_filtered_and_ordered(browser: Browser) -> None:
    session = _select(browser, "#turn-session")
    assert len(session.options) == 1 + SESSIONS
    session.select_by_index(SESSIONS)
    assert browser.one("#turn-count").text == "30 turns in the list"
    _select(browser, "#turn-order").select_by_value("slowest")
    shown = [_shown_ms(each) for each in browser.all("#turn-list b")]
    assert shown == pytest.approx(sorted(map(_first_audio, TURNS[:30]), reverse=True), abs=0.51)
    assert _total(browser) == pytest.approx(max(map(_first_audio, TURNS[:30])), abs=0.051)
    session.select_by_index(0)
    assert browser.one("#turn-count").text == "54 turns in the list"


def test_turns_without_a_sound_are_told_from_others(browser: Browser) -> None:
    texts = [option.text for option in browser.all("#turn-list [role=option]")[:4]]
    assert [text.split(" · ")[1].split("\n")[0] for text in texts] == ["unfinished", "cancelled", "failed", "typed"]
    assert all("no sound" in text for text in texts[:3])
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


def test_stages_are_those_of_all_complete_turns(browser: Browser) -> None:
    for row, name in zip(browser.all("#stage-table tbody tr"), [*NAMES, "first audio"], strict=True):
        heading, n, mean, p50, p90, p95, p99, largest, share, *_ = (
            cell.text for cell in row.find_elements("css selector", "th, td")
        )
        values = [{**DELAYS, **turn}.get(name, _first_audio(turn)) for turn in TURNS]
        digits = 0 if name == "first audio" else 1
        assert heading == name
        assert n == str(len(TURNS))
        expected = [statistics.fmean(values), *np.quantile(values, (0.5, 0.9, 0.95)), max(values)]
        shown = [float(each.replace(",", "")) for each in (mean, p50, p90, p95, largest)]
        assert shown == pytest.approx(expected, abs=0.51 * 10**-digits)
        assert p99 == "–"
        assert float(share.removesuffix(" %")) == pytest.approx(
            100 * sum(values) / sum(map(_first_audio, TURNS)), abs=0.051
        )
    assert "p99 needs 200" in browser.one("#stages-hint").text


def test_a_distribution_is_read_by_keyboard_and_pointer(browser: Browser) -> None:
    _select(browser, "#curve-stage").select_by_value("llm_first_token")
    values = [{**DELAYS, **turn}["llm_first_token"] for turn in TURNS]

    def reading() -> tuple[float, float]:
        said = browser.one("#curve [role=slider]").get_attribute("aria-valuetext") or ""
        percent, within, _ = re.split(r" % within | ms", said.replace(",", ""))
        return float(percent), float(within)

    assert reading()[0] == 50
    assert reading()[1] == pytest.approx(np.quantile(values, 0.5), abs=0.06)
    browser.run("arguments[0].focus()", browser.one("#curve svg"))
    _press(browser, Keys.ARROW_RIGHT, Keys.PAGE_UP)
    assert reading()[0] == 61
    assert reading()[1] == pytest.approx(np.quantile(values, 0.61), abs=0.06)
    _press(browser, Keys.END)
    assert reading() == (100, max(values))
    ActionChains(browser.driver).move_to_element_with_offset(browser.one("#curve svg"), 0, 0).perform()
    percent, pointed = reading()
    assert 0 < percent < 100
    assert min(values) < pointed < max(values)


def test_a_dot_of_the_trend_is_a_turn(browser: Browser) -> None:
    _select(browser, "#turn-session").select_by_index(SESSIONS)
    dots = browser.all("#trend-plot .dot")
    assert len(dots) == len(TURNS)
    ActionChains(browser.driver).scroll_to_element(dots[34]).click(dots[34]).perform()
    assert _total(browser) == pytest.approx(_first_audio(TURNS[34]), abs=0.051)
    assert browser.one("#turn-count").text == "54 turns in the list"
    (chosen,) = browser.all("#trend-plot .dot.chosen")
    assert chosen == browser.all("#trend-plot .dot")[34]
    assert len(browser.all("#trend-plot .session")) == 2


def test_a_session_is_opened_from_its_row(browser: Browser) -> None:
    rows = browser.all("#session-table tbody tr")
    assert [row.find_elements("css selector", "td")[1].text for row in rows] == ["1", "3", "20", "30"]
    medians = [row.find_elements("css selector", "td")[3].text for row in rows]
    assert medians[:2] == ["–", "–"]
    truth = [statistics.median(map(_first_audio, part)) for part in (TURNS[30:], TURNS[:30])]
    assert list(map(_plain, medians[2:])) == pytest.approx(truth, abs=0.51)
    button = rows[2].find_element("css selector", "button")
    ActionChains(browser.driver).scroll_to_element(button).click(button).perform()
    assert browser.one("#turn-count").text == "20 turns in the list"
    assert browser.driver.switch_to.active_element == browser.one("#turn-list")


def _pair(browser: Browser) -> dict[str, list[str]]:
    """The cells of each row of the comparison, but for the picture."""
    rows = browser.all("#compare-table tbody tr")
    cells = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
    return {name: rest[:-1] for name, *rest in cells}


def _plain(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def test_two_halves_are_compared_with_intervals(browser: Browser) -> None:
    before, after = TURNS[:25], TURNS[25:]
    assert _select(browser, "#compare-a").first_selected_option.text == "earlier half (25 turns)"
    assert _select(browser, "#compare-b").first_selected_option.text == "later half (25 turns)"
    rows = _pair(browser)
    assert list(rows) == [*NAMES, "first audio"]
    for name, (a, b, difference, interval, _, _, verdict) in rows.items():
        of = [[{**DELAYS, **turn}.get(name, _first_audio(turn)) for turn in part] for part in (before, after)]
        medians = [statistics.median(values) for values in of]
        assert [_plain(a), _plain(b)] == pytest.approx(medians, abs=0.051)
        assert _plain(difference) == pytest.approx(medians[1] - medians[0], abs=0.051)
        low, high = (_plain(end) for end in interval.split(" to "))
        assert low <= _plain(difference) <= high
        assert verdict in ("faster", "slower", "no difference", "undecided")
        assert (low > 0, high < 0) == (verdict == "slower", verdict == "faster") or verdict == "no difference"
    assert rows["recall"][-1] == "no difference"
    assert rows["llm_first_token"][-1] == "slower"
    assert browser.one("#compare-answer").text.startswith("After is slower: ")


def test_sessions_are_compared_from_the_lists(browser: Browser) -> None:
    a = _select(browser, "#compare-a")
    a.select_by_visible_text(next(each.text for each in a.options if "home" in each.text))
    b = _select(browser, "#compare-b")
    assert ["kitchen" in each.text for each in b.options] == [True]
    medians = [statistics.median(map(_first_audio, part)) for part in (TURNS[:30], TURNS[30:])]
    assert [_plain(text) for text in _pair(browser)["first audio"][:2]] == pytest.approx(medians, abs=0.051)
    assert _pair(browser)["first audio"][-1] == "slower"


_BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_button_turns_the_scheme_round(browser: Browser, system: str) -> None:
    browser.look(prefers_color_scheme=system)
    browser.driver.refresh()
    button = browser.one("#theme")
    before = browser.run(_BACKGROUND)
    assert button.get_attribute("aria-pressed") == str(system == "dark").lower()
    button.click()
    assert browser.run(_BACKGROUND) != before
    assert button.get_attribute("aria-pressed") == str(system == "light").lower()
    button.click()
    assert browser.run(_BACKGROUND) == before


_CONTRASTS = """
const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
function rgba(colour) {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
}
function luminance([r, g, b]) {
  const linear = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}
function background(node) {
  for (let at = node; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  throw new Error("no background");
}
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (texts.nextNode()) {
  const node = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !node.checkVisibility() || node.closest("script, option, .skip")) continue;
  const style = getComputedStyle(node);
  const ink = luminance(rgba(node instanceof SVGElement ? style.fill : style.color));
  const [low, high] = [ink, luminance(background(node))].sort((a, b) => a - b);
  found.push([(high + 0.05) / (low + 0.05), texts.currentNode.data.trim()]);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_text_stands_out(browser: Browser, scheme: str, width: int) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    browser.look(width, prefers_color_scheme=scheme)
    contrasts = browser.run(_CONTRASTS)
    assert len(contrasts) > 200
    assert [each for each in contrasts if each[0] < 4.5] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_has_to_be_scrolled_sideways(browser: Browser, width: int) -> None:
    browser.look(width)
    browser.one("#turn-whole").click()
    browser.run("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert browser.run("const page = document.documentElement; return page.scrollWidth - page.clientWidth") == 0
    outside = """
      return [...document.querySelectorAll("body *")].filter((each) => !each.closest(".scroll, .skip, svg, .bar"))
        .filter((each) => each.getBoundingClientRect().right > innerWidth + 0.5).map((each) => each.outerHTML)
    """
    assert browser.run(outside) == []


def test_a_plot_follows_the_width_of_the_window(browser: Browser) -> None:
    for width in WIDTHS:
        browser.look(width)
        browser.run("dispatchEvent(new Event('resize'))")
        for css in ("#curve", "#trend-plot"):
            box, drawn = browser.one(css).rect, browser.one(f"{css} svg").rect
            assert drawn["width"] == pytest.approx(box["width"], abs=1)
            view = browser.one(f"{css} svg").get_dom_attribute("viewBox")
            assert view is not None
            assert float(view.split()[2]) == pytest.approx(box["width"], abs=1)


def test_every_control_has_a_name_and_a_role(browser: Browser) -> None:
    controls = browser.all("button, select, input, summary, [role=listbox], [role=slider], [role=region]")
    assert len(controls) >= 12
    assert [each.get_attribute("outerHTML") for each in controls if not each.accessible_name] == []
    assert browser.one("#turn-list").aria_role == "listbox"
    assert {each.aria_role for each in browser.all("#turn-list li")} == {"option"}
    assert {each.aria_role for each in browser.all("#waterfall [data-stage]")} == {"row"}
    for picture in browser.all("svg"):
        hidden = picture.get_attribute("aria-hidden") == "true"
        assert hidden or picture.get_attribute("aria-label")
    ids = browser.run("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    levels = [int(each.tag_name[1]) for each in browser.all("h1, h2, h3")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tab_reaches_everything_once(browser: Browser) -> None:
    reached = []
    for _ in range(60):
        _press(browser, Keys.TAB)
        active = browser.run(
            "const at = document.activeElement; return at.id || at.getAttribute('class') || at.tagName"
        )
        if active == "BODY":
            break
        reached.append(active)
    wanted = ["theme", "turn-session", "turn-order", "turn-list", "turn-whole", "curve-stage", "trend-stage"]
    assert [each for each in reached if each in wanted] == wanted
    assert reached[0] == "skip"
    assert reached.count("link") == SESSIONS


def test_print_is_light_and_without_controls(browser: Browser) -> None:
    browser.look(media="print", prefers_color_scheme="dark")
    assert browser.run(_BACKGROUND) == "rgb(255, 255, 255)"
    assert not any(browser.one(css).is_displayed() for css in ("#theme", "#turn-list", "#turn-session", "nav"))
    assert browser.one("#waterfall").is_displayed()


def test_nothing_moves_for_those_who_do_not_want_it(browser: Browser) -> None:
    behavior = "return getComputedStyle(document.documentElement).scrollBehavior"
    assert browser.run(behavior) == "auto"
    browser.look(prefers_reduced_motion="no-preference")
    assert browser.run(behavior) == "smooth"


class _Counting(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


def test_the_policy_lets_nothing_out(window: Browser, page: Path) -> None:
    """Even what somebody put into the page asks for nothing and runs nothing."""
    asked: list[str] = []
    handler = type("Handler", (_Counting,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = json.dumps(f"http://127.0.0.1:{server.server_port}")
        window.look()
        window.open(page)
        window.run(f"""
          const image = new Image(); image.src = {address} + "/image"; document.body.append(image);
          const script = document.createElement("script"); script.textContent = "document.title = 'broken'";
          document.body.append(script);
          fetch({address} + "/fetch").catch(() => (document.body.dataset.blocked = "yes"));
        """)
        refused = window.complaints()
        assert window.driver.title == "Timmy: where the time of turns went"
        assert len([line for line in refused if "Content Security Policy" in line]) >= 3
        server.shutdown()
    assert asked == []


def test_a_page_without_a_complete_turn_says_so(window: Browser, tmp_path: Path) -> None:
    with House(tmp_path / "trace") as house:
        house.turn(typed=True)
        house.turn(until=Stage.HEARD, outcome="failed")
    path = tmp_path / "page.html"
    assert run(["latency", "report", "--html", str(path), "--trace", str(tmp_path / "trace")]) == 0
    window.look(360)
    window.open(path)
    assert "No spoken turn was answered aloud" in window.one("#headline").text
    assert [window.one(f"#{name}").is_displayed() for name in ("turns", "stages", "trend", "compare")] == [True] + 3 * [
        False
    ]
    assert len(window.all("#turn-list [role=option]")) == 2
    assert window.complaints() == []
