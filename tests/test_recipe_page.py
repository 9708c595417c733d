"""The steps of a recipe: what they record for their figures, and their page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import plotly.graph_objects as go
import pytest
from browser import opened_browser, watched

from mltricks.figures.gates import gate_figure
from mltricks.recipe.charts import bars, chart, over_epochs, scores_over_rates, series
from mltricks.recipe.gate import Gate
from mltricks.recipe.rates import gate_of as rates_gate
from mltricks.report.write import write
from mltricks.summary import Summary
from mltricks.sweep.ranges import Span

EVIL = "</script><img src=x onerror=alert(1)>"
LOSSES = [2.0, 1.0, 0.5, 0.6]
CHARTS = [
    bars("loss before training", {"constant prediction": 2.303, "first batches": 2.31, "unknown": None}),
    chart("update", "loss of the sample", over_epochs("lr 0.003", LOSSES), levels={"constant prediction": 2.303}),
    chart("learning rate", "loss", series("range test", [1e-5, 1e-3, 1e-1], [2.3, 0.5, 9.0]), log_x=True),
    chart("learning rate", "val/accuracy", series("trials", [1e-3, 2e-3], [0.8, 0.9], points=True), log_x=True),
    chart("epoch", "loss", over_epochs("training", [2.0, 0.01]), over_epochs("validation", [2.1, 0.9])),
    chart("learning rate", "val/accuracy", series("trials", [1e-3], [0.8], points=True), log_x=True),
]


def test_a_passed_gate_with_advice_is_a_warning() -> None:
    assert Gate(1, "a", "pass", "fine.").verdict == "pass"
    assert Gate(1, "a", "pass", "fine.", advice="Do this.").verdict == "warn"
    assert Gate(1, "a", "fail", "bad.", advice="Do this.").verdict == "fail"
    lines = Gate(7, "search again", "pass", "overfitting.", advice="Do this.", round=2).lines()
    assert lines[0].startswith("7.2 search again")
    assert "WARN" in lines[0]
    assert all(len(line) <= 80 for line in Gate(6, "reading the curves", "pass", "long " * 60, more="more.").lines())


def test_charts_leave_out_what_is_not_finite_and_are_none_if_nothing_is_left() -> None:
    nan, inf = float("nan"), float("inf")
    assert series("a", [1, 2, 3], [0.5, inf, nan]) == {"name": "a", "x": [1], "y": [0.5], "points": False}
    assert chart("x", "y", series("a", [1], [nan]), levels={"b": 1.0}) is None
    assert bars("y", {"a": None, "b": inf}) is None
    failed = SimpleNamespace(summary=Summary("failed"))
    assert scores_over_rates([{"optim.lr": 0.1}], [failed]) is None  # type: ignore[list-item]


@pytest.mark.parametrize("content", CHARTS)
def test_every_figure_is_valid_plotly(content: dict[str, Any]) -> None:
    drawn = gate_figure(json.loads(json.dumps(content)))
    go.Figure(drawn, skip_invalid=False)
    shown = [len(trace["x"]) for trace in drawn["data"]]
    assert shown
    assert all(shown), "no figure is empty"


def test_an_axis_of_rates_has_ticks_also_where_the_rates_are_close() -> None:
    kinds = [gate_figure(CHARTS[i])["layout"]["xaxis"].get("type") for i in (2, 3)]  # type: ignore[arg-type]
    assert kinds == ["log", None]
    assert gate_figure(CHARTS[5])["layout"]["xaxis"]["range"] == [0.0005, 0.002]  # type: ignore[arg-type]
    assert gate_figure(CHARTS[4])["layout"]["yaxis"]["type"] == "log", "the loss spans more than a factor of 30"  # type: ignore[arg-type]


def test_the_gate_of_learning_rates_shows_the_range_test_and_the_short_runs() -> None:
    found = {"reason": "the loss falls.", "rates": [1e-4, 1e-2], "smooth": [2.0, 1.0], "verdict": "pass", "first": 2.0}
    found |= {"suggestion": 1e-3, "steepest": 1e-3, "breaks": 1e-2, "advice": []}
    gate = rates_gate(found, [1e-3, 1e-2], [1.0, float("inf")], [1e-3], Span(5e-4, 1e-2, log=True), 100)
    assert (
        gate.reason == "1 of 2 short runs of 100 updates lower the loss by 5%; the coarse search covers 0.0005 to 0.01."
    )
    assert gate.more == "Range test: the loss falls."
    assert gate.chart is not None
    assert [(one["name"], one["x"]) for one in gate.chart["series"]] == [
        ("range test, training", [1e-4, 1e-2]),
        ("short runs, validation", [1e-3]),
    ]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``visit(width, scheme)`` opens the page of a finished recipe; an error of a script fails the test."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "0").mkdir()
    objective = {"name": "val/accuracy", "value": 0.9, "direction": "maximize"}
    Summary("completed", objective=objective, seconds=1.0).write(folder / "0" / "summary.json")
    gates = [Gate(i + 1, "step", "pass", "it is fine.", jobs=[0], chart=c) for i, c in enumerate(CHARTS[:5])]
    gates.append(Gate(6, "reading the curves", "pass", f"overfitting {EVIL}.", advice="More data.", chart=CHARTS[4]))
    gates += [Gate(7, "search again", "pass", "kept.", round=i, chart=CHARTS[5]) for i in (1, 2)]
    gates.append(Gate(8, "final run", "fail", "nothing is learnt."))
    best = {"command": "python -m mltricks optim.lr=0.02", "experiment_command": "python -m mltricks experiment=best"}
    best |= {"objective": objective, "test": {"loss": 0.3, "accuracy": 0.875}, "floor": {"linear model": 0.5}}
    content = {"status": "finished", "gates": [gate.record() for gate in gates], "best": best}
    (folder / "recipe.json").write_text(json.dumps(content))
    write(folder)
    with opened_browser() as browser, watched(browser) as go:
        yield lambda width, scheme="light": go(folder / "sweep.html", width, color_scheme=scheme)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light"), (320, "dark")])
def test_a_row_for_each_gate_with_its_verdict_sentence_and_figure(visit: Any, width: int, scheme: str) -> None:
    page = visit(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.locator("#recipe li").evaluate_all("all => all.map(e => e.className)")
    assert names == ["good"] * 5 + ["bad", "good", "good", "fail"], "no green over a finding"
    titles = page.locator("#recipe h3").all_inner_texts()
    assert [title.partition(". ")[0] for title in titles] == ["1", "2", "3", "4", "5", "6", "7.1", "7.2", "8"]
    assert page.locator("#recipe .chart .main-svg").count() >= 8
    assert page.locator("#recipe li:last-child .chart").count() == 0, "no empty figure"
    assert EVIL in page.inner_text("#recipe")
    assert page.locator("#recipe img").count() == 0
    assert "{" not in page.locator("#recipe ol").inner_text(), "no raw JSON"
    if width == 1280:
        assert page.evaluate("document.documentElement.scrollHeight") < 3000


def test_the_result_and_its_command_are_on_top(visit: Any) -> None:
    page = visit(1280)
    assert "0.8750" in page.inner_text(".cards")
    command = page.locator("#commands pre").first
    assert command.inner_text() == "python -m mltricks optim.lr=0.02"
    assert page.locator("#commands .command").first.locator("button.copy").count() == 1
    assert command.bounding_box()["y"] < page.locator("#recipe").bounding_box()["y"]
