"""The report in a real browser: how it looks, who can use it, and that nothing leaves it."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from ipc.marks import Stage
from tests.browser.truth import (
    SESSIONS,
    WIDTHS,
    press,
)
from tests.support.browser import Browser
from tests.support.traces import House
from tools.cli import run

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
        press(browser, Keys.TAB)
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
