"""The page of a comparison, and a watched sweep, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import NEEDS_CHROMIUM, opened_browser, watched
from compare_folders import record
from sweep_folders import command

from mltricks.comparison.compared import compared
from mltricks.comparison.page import write
from mltricks.report.watch import has_ended
from mltricks.report.write import write as write_sweep

EVIL = "<img src=x onerror=alert(1)>"
pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    mixup = {"technique.mixup": {"_target_": "mltricks.techniques.mixup.Mixup", "alpha": 0.2}}
    typed = [["model=mlp", f"seed={i}"] for i in range(3)]
    folders = [record(root / f"plain{i}", {"seed": i}, val=0.8 + i / 100, overrides=typed[i]) for i in range(3)]
    folders.append(record(root / "mixup", mixup, test=0.94, overrides=["technique=[mixup]"], name=EVIL))
    folders.append(record(root / "lost", {"epochs": 3}, status="failed", error=f"no memory {EVIL}"))
    return write(compared(folders), root / "out")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """``visit(path, width=390, color_scheme="dark")`` opens a page; what it complains about fails the test."""
    with watched(browser) as go:
        yield go


def test_the_comparison_is_drawn_and_texts_are_texts(visit: Any, comparison: Path) -> None:
    page = visit(comparison)
    titles = page.locator("section h2").all_inner_texts()
    assert titles == ["What differs", "Read this first", "Results", "Learning curves", "Runs", "Commands"]
    assert page.locator(".chart[data-name=curves] .scatterlayer .trace path.js-line").count() >= 3 * (3 + 1)
    assert page.locator(".chart[data-name=test_scores] .errorbar").count() == 2
    assert EVIL in page.inner_text("main")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (390, "light")])
def test_a_phone_shows_the_comparison_without_scrolling_sideways(
    visit: Any, comparison: Path, width: int, scheme: str
) -> None:
    page = visit(comparison, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("curves", "test_scores"):
        assert page.locator(f".chart[data-name={name}] .main-svg").first.bounding_box()["width"] <= width


def test_the_command_of_a_configuration_is_copied(visit: Any, comparison: Path) -> None:
    page = visit(comparison)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    commands = page.locator(".command pre").all_inner_texts()
    assert commands[0] == "python -m mltricks model=mlp", "three seeds: its command names none"
    assert commands[1] == "python -m mltricks technique=mixup"
    assert commands[-1].startswith("python -m mltricks job=compare runs=")
    page.locator("button.copy").nth(1).click()
    page.wait_for_selector("button.copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == commands[1]


def test_a_click_in_the_legend_hides_all_runs_of_a_configuration(visit: Any, comparison: Path) -> None:
    page = visit(comparison)
    page.locator(".chart[data-name=curves] .legendtoggle").first.click()
    hidden = (
        "document.querySelector('.chart[data-name=curves]')._fullData.filter(t => t.visible === 'legendonly').length"
    )
    for _ in range(40):
        if page.evaluate(hidden):
            break
        page.wait_for_timeout(50)
    assert page.evaluate(hidden) == 3 * 4, "three runs and their mean, in three panels"


def test_a_watched_page_loads_itself_again_and_keeps_its_filter(visit: Any, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    done = command("optim.lr=1e-3,1e-2", f"hydra.sweep.dir={sweep}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert has_ended(sweep)
    content = json.loads((sweep / "sweep.json").read_text()) if (sweep / "sweep.json").is_file() else {}
    (sweep / "sweep.json").write_text(json.dumps(content | {"status": "running"}))
    assert not has_ended(sweep)
    write_sweep(sweep, 2)
    page = visit(sweep / "sweep.html")
    page.fill("#filter", "optim.lr=0.01")
    loaded_again(page)
    assert page.input_value("#filter") == "optim.lr=0.01"
    assert page.locator("#leaderboard tbody tr").count() == 1
    (sweep / "sweep.json").write_text(json.dumps(content | {"status": "finished"}))
    write_sweep(sweep)  # as the sweep does at its end
    loaded_again(page)
    assert page.locator("meta[http-equiv=refresh]").count() == 0, "the last page stays"


def loaded_again(page: Any) -> None:
    """Wait until the page has loaded itself again."""
    page.wait_for_event("load")
    page.wait_for_selector("html[data-drawn], html[data-ready]")
