"""The page of a run in a real browser: it draws, reacts, fits a phone, follows the colour scheme and copies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from browser import NEEDS_CHROMIUM, opened_browser, watched
from conftest import TINY

import mltricks

pytestmark = NEEDS_CHROMIUM
EVIL = "<img src=x onerror=alert(1)>"
CHARTS = (
    "learning_curves",
    "class_balance",
    "confusion_matrix",
    "calibration",
    "precision_recall",
    "layers",
    "schedule",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    cfg = mltricks.compose([*TINY, "plots=true", "epochs=6", "scheduler=cosine", "technique=[mixup]", "tags=[a,b]"])
    cfg.name, cfg.notes = EVIL, f"notes {EVIL} {'long_' * 40}"
    mltricks.train(cfg, folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Any]:
    """``visit(width=390, color_scheme="dark")`` opens the page; what it complains about fails the test."""
    with watched(browser, ignored=()) as go:
        yield partial(go, report)


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids playwright's own way, which evaluates texts in it."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def ink_and_paper(page: Any) -> tuple[int, int]:
    """The brightness of the text and of the background."""
    colors = [page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")]
    ink, paper = (sum(map(int, color[4:-1].split(","))) for color in colors)
    return ink, paper


def tick_color(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.querySelector('.chart .xtick text')).fill"))


def test_every_chart_is_drawn_and_texts_are_texts(visit: Any) -> None:
    page = visit()
    for name in CHARTS:
        assert page.locator(f".chart[data-name={name}] .main-svg").count() > 0, name
        assert page.locator(f".chart[data-name={name}] .trace, .chart[data-name={name}] .hm").count() > 0, name
    assert page.inner_text("h1") == EVIL
    assert f"notes {EVIL}" in page.inner_text("header")
    assert page.locator("img[src=x]").count() == 0
    assert page.locator(".modebar-btn--logo").count() == 0


def test_the_pointer_shows_values(visit: Any) -> None:
    page = visit()
    point = page.locator(".chart[data-name=learning_curves] .scatterlayer .points path").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = page.locator(".chart[data-name=learning_curves] .hoverlayer .hovertext")
    shown.first.wait_for()
    assert any(character.isdigit() for character in shown.first.text_content())


def test_dragging_zooms_and_a_double_click_resets(visit: Any) -> None:
    page = visit()
    chart = ".chart[data-name=calibration]"
    span = lambda: page.evaluate(f"document.querySelector('{chart}')._fullLayout.xaxis.range.slice()")  # noqa: E731
    before, area = span(), page.locator(f"{chart} .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    left, right, middle = box["x"] + box["width"] * 0.3, box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(right, middle, steps=4)
    page.mouse.up()
    zoomed = span()
    assert zoomed[1] - zoomed[0] < 0.6 * (before[1] - before[0])
    page.mouse.dblclick(left, middle)
    until(page, f"document.querySelector('{chart}')._fullLayout.xaxis.range[0] < {zoomed[0] / 2}")
    assert span() == pytest.approx(before)


def test_a_click_in_the_legend_hides_a_line(visit: Any) -> None:
    page = visit()
    hidden = "document.querySelector('.chart[data-name=calibration]')._fullData.some(t => t.visible === 'legendonly')"
    assert not page.evaluate(hidden)
    page.locator(".chart[data-name=calibration] .legendtoggle").last.click()
    until(page, hidden)
    assert page.evaluate(hidden)


def test_a_figure_is_downloaded(visit: Any) -> None:
    page = visit()
    chart = page.locator(".chart[data-name=confusion_matrix]")
    chart.hover()
    with page.expect_download() as download:
        chart.locator(".modebar-btn").first.click()
    assert download.value.suggested_filename == "confusion_matrix.png"
    assert Path(download.value.path()).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (390, "light")])
def test_a_phone_shows_it_without_scrolling_sideways(visit: Any, width: int, scheme: str) -> None:
    page = visit(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = ink_and_paper(page)
    assert (ink > paper) == (scheme == "dark")
    for name in CHARTS:
        chart = page.locator(f".chart[data-name={name}] .main-svg").first
        assert chart.bounding_box()["width"] <= width
    lefts = page.eval_on_selector_all(
        ".chart[data-name=learning_curves] .nsewdrag", "all => all.map(e => e.getBoundingClientRect().left)"
    )
    assert len(lefts) == 2
    assert max(lefts) - min(lefts) < 1, "panels stand below each other"


def test_it_follows_a_change_of_the_colour_scheme(visit: Any) -> None:
    page = visit(color_scheme="light")
    before = tick_color(page)
    page.emulate_media(color_scheme="dark")
    until(page, f"getComputedStyle(document.querySelector('.chart .xtick text')).fill !== '{before}'")
    ink, paper = ink_and_paper(page)
    assert ink > paper


def test_a_folded_part_opens_and_a_wider_window_redraws(visit: Any) -> None:
    page = visit(700)
    page.click("summary:has-text('Configuration')")
    assert "batch_size" in page.inner_text("details")
    chart = ".chart[data-name=layers]"
    page.set_viewport_size({"width": 1100, "height": 900})
    until(page, f"Number(document.querySelector('{chart}').dataset.drawn) > 900")
    assert page.locator(f"{chart} .main-svg").first.bounding_box()["width"] > 900


@pytest.mark.parametrize("clipboard", [True, False])
def test_a_command_is_copied(visit: Any, clipboard: bool) -> None:
    """Also without ``navigator.clipboard``, which a page from disk may lack."""
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not clipboard:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    text = page.locator(".command pre").nth(1).inner_text()
    assert "mltricks.load(" in text
    page.locator("button.copy").nth(1).click()
    page.wait_for_selector("button.copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == text
