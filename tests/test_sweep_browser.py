"""The page of a sweep in a real browser: it loads, sorts, filters, fits a phone, and no value can inject HTML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import NEEDS_CHROMIUM, opened_browser, watched
from sweep_folders import EVIL, make_folders

SEARCHED = ("leaderboard", "curves", "history", "parallel", "importance", "slices", "timeline")
"""Sections of a search; the jobs of a recipe or an ablation are folded, and have no such figures."""
SORTS = ("grid", "study", "unfinished", "recipe", "ablation")

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_folders(tmp_path_factory.mktemp("sweeps"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any, folders: dict[str, Path]) -> Iterator[Any]:
    """``visit("grid", width=320, color_scheme="dark")`` opens a page; what it complains about fails the test."""
    with watched(browser) as go:
        yield lambda name, width=1100, **options: go(folders[name] / "sweep.html", width, 800, **options)


def column(page: Any, name: str) -> list[str]:
    """The texts of a column of the leaderboard, from top to bottom."""
    heads = [text.strip() for text in page.locator("#leaderboard thead th").all_inner_texts()]
    return page.locator(f"#leaderboard tbody tr td:nth-child({heads.index(name) + 1})").all_inner_texts()


@pytest.mark.parametrize("name", SORTS)
def test_every_section_is_there_and_the_page_loads_nothing(visit: Any, name: str) -> None:
    page = visit(name)
    sections = page.eval_on_selector_all("section", "all => all.map(s => s.id)")
    own = [name] if name in ("recipe", "ablation") else []
    assert sorted(sections) == sorted(["commands", "failures", *(own or SEARCHED)])
    for section in sections:
        assert len(page.inner_text(f"#{section}")) > 20
    for picture in () if own else ("curves", "history", "parallel", "slices", "timeline"):
        assert page.locator(f"#{picture} .chart .trace path").count() > 1
    targets = page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))")
    assert {t.removeprefix("#") for t in targets} == (set(sections) | {"leaderboard"}) - {"commands"}


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


def test_a_phone_shows_the_swept_values_beside_the_scores(visit: Any) -> None:
    page = visit("grid", width=390)
    box = page.locator("#leaderboard tbody tr >> nth=0 >> td >> text=0.01").bounding_box()
    assert box["x"] + box["width"] < 390
    assert " to " in page.inner_text("#leaderboard small.narrow >> nth=0")
    assert visit("grid").locator("#leaderboard small.narrow >> nth=0").is_hidden()


def test_the_keyboard_sorts(visit: Any) -> None:
    page = visit("grid")
    page.focus("#leaderboard th button:has-text('seconds')")
    page.keyboard.press("Enter")
    seconds = [float(text) for text in column(page, "seconds")]
    assert seconds == sorted(seconds)


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


def drawn(page: Any, section: str) -> list[dict[str, Any]]:
    """The traces of a figure as plotly.js has them."""
    found: list[dict[str, Any]] = page.eval_on_selector(f"#{section} .chart", "div => div.data")
    return found


def test_the_pointer_shows_the_values(visit: Any) -> None:
    page = visit("grid")
    page.locator("#curves .chart").scroll_into_view_if_needed()
    page.locator("#curves .chart .scatterlayer .trace .point").last.hover(force=True)
    page.wait_for_selector("#curves .hoverlayer .hovertext")
    page.locator("#history .chart .scatterlayer .trace .point").last.hover(force=True)
    page.wait_for_selector("#history .hoverlayer .hovertext")
    said = page.text_content("#history .hoverlayer .hovertext")
    assert "job 5" in said
    assert "val/accuracy" in said


def test_a_configuration_has_one_curve_and_a_band(visit: Any) -> None:
    traces = [trace for trace in drawn(visit("grid"), "curves") if trace["xaxis"] == "x"]
    names = [trace["name"] for trace in traces if trace.get("fill") is None]
    assert sorted(names) == ["1: lr 0.01", "2: lr 0.001", "3: lr 0.0001"]
    bands = [trace for trace in traces if trace.get("fill") == "toself"]
    assert {trace["name"] for trace in bands} <= set(names)
    assert bands
    lines = [trace for trace in traces if trace.get("fill") is None]
    assert all([float(x).is_integer() for x in trace["x"]] for trace in lines)
    assert len({trace["line"]["color"] for trace in lines}) == 3


def test_a_range_of_the_parallel_coordinates_filters_the_leaderboard(visit: Any) -> None:
    page = visit("grid")
    chart = page.locator("#parallel .chart")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").bounding_box()
    pole = page.evaluate("document.querySelector('#parallel .chart')._fullLayout.xaxis.d2p(0)")
    top = page.evaluate("document.querySelector('#parallel .chart')._fullLayout.yaxis.d2p(1.04)")
    page.mouse.move(box["x"] + pole - 30, box["y"] + top)
    page.mouse.down()
    page.mouse.move(box["x"] + pole + 30, box["y"] + top + 100, steps=5)
    page.mouse.up()
    page.wait_for_selector("#leaderboard [role=status]:has-text('1 of 3 configurations')")
    assert column(page, "optim.lr") == ["0.01"]
    traces = drawn(page, "parallel")
    assert [row for trace in traces[1:] for row in trace["customdata"] if row >= 0] == [0, 0], "the line that is kept"
    assert len([row for row in traces[0]["customdata"] if row >= 0]) == 4, "two grey lines with two axes"
    page.click("text=Show all ranges")
    page.wait_for_selector("#leaderboard [role=status]:has-text('3 of 3 configurations')")
    assert len(drawn(page, "parallel")) == 3


def test_every_row_has_its_commands(visit: Any) -> None:
    page = visit("grid")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#leaderboard tbody tr >> nth=0 >> button.open")
    commands = page.locator("#leaderboard tr.details pre").all_inner_texts()
    assert commands[0].startswith("python -m mltricks model=mlp")
    assert "optim.lr=0.01" in commands[0]
    assert "seed=" not in commands[0]
    assert [text.rpartition("/")[2] for text in commands[1:]] == ["4", "5"]
    assert all(text.startswith("python -m mltricks.report ") for text in commands[1:])
    page.click("#leaderboard tr.details button.copy >> nth=1")
    page.wait_for_selector("button.copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == commands[1]
    page.click("#leaderboard tbody tr >> nth=0 >> button.open")
    assert page.locator("#leaderboard tr.details").count() == 0


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
    assert page.locator("script:not([type])").count() == 4, "none came from the data"


def test_every_kind_of_end_is_counted_and_shown(visit: Any) -> None:
    page = visit("study")
    text = page.inner_text("#failures")
    assert "1 failed" in text
    assert "1 diverged" in text
    assert "1 pruned" in text
    assert "diverged at step 7" in text
    assert "second line" in text
    kinds = {trace["name"]: len(trace["x"]) for trace in drawn(page, "history")}
    assert kinds == {
        "best so far": 6,
        "trained to the end": 3,
        "pruned, interrupted or unfinished": 1,
        "failed or diverged": 2,
    }
    cards = page.inner_text(".cards")
    assert "6 of 6" in cards
    assert "3 with a result, 1 diverged, 1 failed, 1 pruned" in cards
    assert "1 interrupted attempts left out" in page.inner_text("p.sub")


def test_a_running_sweep_is_shown_as_running(visit: Any) -> None:
    page = visit("unfinished")
    assert "not finished" in page.inner_text(".cards")
    assert "4 of 6" in page.inner_text(".cards")
    assert "The same command continues" in page.inner_text("#commands")


def test_gates_and_arms_are_drawn(visit: Any) -> None:
    page = visit("recipe")
    assert page.eval_on_selector_all("#recipe li", "all => all.map(li => li.className)") == ["good", "fail"]
    assert page.locator("#recipe li .chart .trace").count() >= 2
    assert "recipe.force=true" in page.inner_text("#recipe")
    assert "optim.lr=0.02" in page.locator("#commands pre").first.inner_text(), "the result of the recipe"
    assert "0.8750" in page.inner_text(".cards")
    page = visit("ablation")
    assert page.locator("#ablation .compact tbody tr").count() == 4
    assert page.locator("#ablation .chart .trace .points path").count() == 3, "an arm without a difference is not drawn"
    assert page.locator("#ablation ul.verdicts li").first.get_attribute("class") == "good"


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
