"""The page of a sweep in a real browser: it loads, sorts, filters, fits a phone, and no value can inject HTML."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_folders import EVIL, make_folders

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
ALWAYS = ("commands", "leaderboard", "curves", "parallel", "importance", "slices", "failures")
SORTS = ("grid", "study", "unfinished", "recipe", "ablation")

playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]'")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; apt-get install chromium")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_folders(tmp_path_factory.mktemp("sweeps"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, folders: dict[str, Path]) -> Iterator[Any]:
    """``visit("grid", width=320, color_scheme="dark")`` opens a page; console messages and requests fail the test."""
    complaints: list[str] = []
    opened = []

    def go(name: str, width: int = 1100, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        opened.append(page)
        page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}") if m.type != "info" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("dialog", lambda d: complaints.append(f"dialog: {d.message}"))
        page.on("request", lambda r: complaints.append(r.url) if r.url.startswith(("http", "ws", "ftp")) else None)
        files = []
        page.on("request", lambda r: files.append(r.url) if r.url.startswith("file:") else None)
        page.goto((folders[name] / "sweep.html").as_uri())
        page.wait_for_selector("html[data-ready]")
        assert len(files) == 1, f"the page loads other files: {files}"
        return page

    yield go
    for page in opened:
        page.close()
    assert not complaints, complaints


def column(page: Any, name: str) -> list[str]:
    """The texts of a column of the leaderboard, from top to bottom."""
    heads = [text.strip() for text in page.locator("#leaderboard thead th").all_inner_texts()]
    return page.locator(f"#leaderboard tbody tr td:nth-child({heads.index(name) + 1})").all_inner_texts()


@pytest.mark.parametrize("name", SORTS)
def test_every_section_is_there_and_the_page_loads_nothing(visit: Any, name: str) -> None:
    page = visit(name)
    sections = page.eval_on_selector_all("section", "all => all.map(s => s.id)")
    own = [name] if name in ("recipe", "ablation") else []
    assert sorted(sections) == sorted([*ALWAYS, *own])
    for section in sections:
        assert len(page.inner_text(f"#{section}")) > 20
    for picture in ("curves", "parallel", "slices"):
        assert page.locator(f"#{picture} svg .line, #{picture} svg .dot").count() > 1
    targets = page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))")
    assert {t.removeprefix("#") for t in targets} == set(sections) - {"commands"}


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(visit: Any, name: str, scheme: str) -> None:
    page = visit(name, width=320, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("color", "backgroundColor"))
    bright = {what: sum(map(int, text[4:-1].split(","))) for what, text in (("ink", ink), ("paper", paper))}
    assert (bright["ink"] > bright["paper"]) == (scheme == "dark")


def test_the_leaderboard_is_sorted_by_the_mean_and_then_as_asked(visit: Any) -> None:
    page = visit("grid")
    means = [float(text) for text in column(page, "val/accuracy")]
    assert len(means) == 3, "two seeds are one configuration"
    assert means == sorted(means, reverse=True)
    page.click("#leaderboard th button:has-text('optim.lr')")
    assert [float(v) for v in column(page, "optim.lr")] == [1e-4, 1e-3, 1e-2], "as numbers, not as texts"
    page.click("#leaderboard th button:has-text('optim.lr')")
    assert [float(v) for v in column(page, "optim.lr")] == [1e-2, 1e-3, 1e-4]
    assert page.get_attribute("#leaderboard th:has-text('optim.lr')", "aria-sort") == "descending"


def test_the_keyboard_sorts_and_moves_between_the_curves(visit: Any) -> None:
    page = visit("grid")
    page.focus("#leaderboard th button:has-text('seconds')")
    page.keyboard.press("Enter")
    seconds = [float(text) for text in column(page, "seconds")]
    assert seconds == sorted(seconds)
    page.focus("#curves [tabindex='0'][role=img]")
    seen = [page.inner_text("#curves output")]
    for _ in range(5):
        page.keyboard.press("ArrowDown")
        seen.append(page.inner_text("#curves output"))
    assert len(set(seen)) == 6, "the arrow keys visit six curves"
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#curves output") == seen[0], "after the last curve comes the first"
    assert page.locator("#curves [tabindex='0'][role=img]").count() == 1, "all curves are one tab stop"


def test_the_leaderboard_filters_by_text_and_status(visit: Any) -> None:
    page = visit("study")
    total = len(column(page, "#"))
    page.fill("#filter", "optim.lr=0.01")
    assert 0 < len(column(page, "#")) < total
    assert {float(v) for v in column(page, "optim.lr")} == {0.01}
    page.fill("#filter", "nothing of the sort")
    assert column(page, "#") == []
    page.fill("#filter", "")
    page.select_option("#status", "pruned")
    assert ["pruned" in text for text in column(page, "status")] == [True]
    assert "1 of" in page.inner_text("#leaderboard [role=status]")


def test_curves_switch_and_ranges_narrow(visit: Any) -> None:
    page = visit("grid")
    shapes = set()
    for kind in ("score", "val", "train"):
        page.select_option("#curve", kind)
        shapes.add(page.get_attribute("#curves path.line", "d"))
    page.check("#curves input[type=checkbox] >> nth=0")
    shapes.add(page.get_attribute("#curves path.line", "d"))
    assert len(shapes) == 4
    page.click("#parallel summary")
    page.fill("#parallel input[aria-label='min of optim.lr']", "0.005")
    assert "2 of 6" in page.inner_text("#parallel [role=status]")
    assert page.locator("#parallel .line.faded").count() == 4


def test_a_best_value_at_the_edge_shows_the_next_range(visit: Any) -> None:
    page = visit("grid")
    assert "upper edge of 0.0001 to 0.01" in page.inner_text("#commands")
    assert page.inner_text("#slices pre") == "optim.lr=0.001,0.01,0.1"
    best = page.locator("#commands pre").first.inner_text()
    assert best.startswith("python -m mltricks model=mlp")
    assert "optim.lr=0.01" in best
    assert "seed=" not in best, "the best is chosen by its mean"


def test_a_command_is_copied(visit: Any, browser: Any) -> None:
    page = visit("grid")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("button.copy >> nth=0")
    page.wait_for_selector("button.copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#commands pre").first.inner_text()


def test_html_in_values_is_shown_as_text(visit: Any) -> None:
    page = visit("study")
    assert EVIL in page.inner_text("#failures")
    assert EVIL in page.inner_text("#leaderboard")
    assert EVIL in visit("recipe").inner_text("#recipe")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_every_kind_of_end_is_counted_and_shown(visit: Any) -> None:
    page = visit("study")
    text = page.inner_text("#failures")
    assert "1 failed" in text
    assert "1 diverged" in text
    assert "1 pruned" in text
    assert "diverged at step 7" in text
    assert "second line" in text
    assert page.locator("#curves .line.pruned").count() == 1
    assert "1 interrupted attempts left out" in page.inner_text("p.sub")


def test_a_running_sweep_is_shown_as_running(visit: Any) -> None:
    page = visit("unfinished")
    assert "not finished" in page.inner_text(".cards")
    assert "4 of 6" in page.inner_text(".cards")
    assert "The same command continues" in page.inner_text("#commands")


def test_gates_and_arms_are_drawn(visit: Any) -> None:
    page = visit("recipe")
    assert page.eval_on_selector_all("#recipe li", "all => all.map(li => li.className)") == ["good", "bad"]
    assert page.locator("#recipe svg path.line").count() == 1
    assert "recipe.force=true" in page.inner_text("#recipe")
    assert "optim.lr=0.02" in page.locator("#commands pre").first.inner_text(), "the result of the recipe"
    assert "0.8750" in page.inner_text(".cards")
    page = visit("ablation")
    assert page.locator("#ablation svg rect").count() == 3, "an arm without a difference is not drawn"
    assert page.locator("#ablation tbody tr").count() == 4
    low, high = (page.locator("#ablation svg path.end").nth(i).get_attribute("stroke") for i in (0, 1))
    assert (low, high) == ("var(--mark)", "var(--fail)")


def test_the_links_to_jobs_exist(visit: Any, folders: dict[str, Path]) -> None:
    page = visit("grid")
    links = page.eval_on_selector_all("#leaderboard a", "all => all.map(a => a.getAttribute('href'))")
    assert sorted(links) == [f"{i}/" for i in range(6)]
    assert all(os.path.isdir(folders["grid"] / link) for link in links)


def test_it_prints_on_paper(visit: Any) -> None:
    page = visit("grid", color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#filter")
    assert page.is_visible("#leaderboard table")
