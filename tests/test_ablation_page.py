"""An ablation in words, as a table for a paper, as a forest plot, and on its page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from browser import opened_browser, watched

from mltricks.ablation.arms import Comparison, comparisons
from mltricks.ablation.design import read_design
from mltricks.ablation.effects import effect, of_all
from mltricks.ablation.paper import latex, markdown, write_tables
from mltricks.ablation.words import decimals, sentence
from mltricks.config.options import conf_dir
from mltricks.figures.forest import LONGEST, Row, forest
from mltricks.report.write import write
from mltricks.summary import Summary
from mltricks.sweep.outcome import Outcome

LONG = "technique.label_smoothing.epsilon"
COMMAND = ("technique=[mixup,ema]", "optim=sgd,adamw", f"{LONG}=0.1,0.25")
SCORES = {
    "mixup": [0.050, 0.052, 0.049],
    "ema": [0.01, -0.02, 0.015],
    "optim=adamw": [-0.030, -0.031, -0.029],
    f"{LONG}=0.25": [0.0, 0.0, None],
}
"""What each part adds to the score at every seed; ``None`` is a run that diverged."""


def outcome(score: float | None, seconds: float = 1.0) -> Outcome:
    objective = {"name": "val/accuracy", "value": score, "direction": "maximize"}
    status, test = ("diverged", {}) if score is None else ("completed", {"accuracy": score})
    return Outcome(0, [], Path("nowhere"), Summary(status, seconds=seconds, objective=objective, test=test))


def found_by(*compared: Comparison, level: float = 0.95) -> dict[str, Any]:
    """The content of ``ablation.json`` if a run's score is the sum of what its parts add."""

    def scores(arm: tuple[str, ...]) -> dict[int, Outcome]:
        added = [[SCORES[part][seed] for part in arm] for seed in range(3)]
        sums = [None if None in one else 0.8 + sum(v for v in one if v is not None) for one in added]
        return {seed: outcome(score, 1.0 + 0.5 * len(arm)) for seed, score in enumerate(sums)}

    results = {arm: scores(arm) for c in compared for arm in (c.treated, c.control)}
    arms = [asdict(e) for e in of_all([effect(c, [], results, True, level) for c in compared], level)]
    head = {"metric": "test/accuracy", "chosen_by": "val/accuracy", "direction": "maximize", "mode": "drop"}
    return {**head, "level": level, "seeds": 3, "baseline": "", "retuned": {}, "rounds": [], "arms": arms}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    design = read_design(COMMAND, [conf_dir()])
    return found_by(*comparisons("drop", design.parts, design.factors))


def test_every_verdict_is_one_plain_sentence(found: dict[str, Any]) -> None:
    mixup, ema, adamw, epsilon = (sentence(arm, found) for arm in found["arms"])
    assert mixup == "mixup with all others improves test accuracy: +0.0503."
    assert ema.startswith("No evidence that ema with all others changes test accuracy: +0.0017; about ")
    assert ema.endswith(" seeds would settle it.")
    assert adamw == "optim=adamw is worse than sgd in test accuracy: -0.0300."
    said = f"No evidence that {LONG}=0.25 differs from 0.1 in test accuracy: 0.0000; "
    assert epsilon == f"{said}all differences are equal, so their spread is unknown; 1 pair was lost."


def test_a_sentence_says_what_the_correction_took_back_and_where_pairs_are_missing() -> None:
    weak = found_by(
        Comparison("ema alone", ("ema",), (), "ema"), *[Comparison("mixup alone", ("mixup",), (), "mixup")] * 3
    )
    arm = weak["arms"][0] | {"verdict": "helps", "verdict_of_all": "no evidence at n=3", "seeds_to_settle": None}
    assert sentence(arm, weak).endswith("; helps without the correction for 4 comparisons.")
    alone = found_by(Comparison("all together", ("mixup", "ema"), ()))
    assert sentence(alone["arms"][0] | {"verdict_of_all": "hurts"}, alone).startswith("The combination worsens ")
    lost = arm | {"verdict_of_all": "too few pairs", "n": 0, "difference": None, "difference_interval": None}
    assert sentence(lost, weak) == "Too few pairs to judge ema alone (n = 0 of 3): no seed was finished by both arms."


def test_decimals_show_two_digits_of_the_narrowest_interval() -> None:
    arms = [{"difference_interval": pair} for pair in ([-0.1, 0.3], [0.00110, 0.00190], None, [0.5, 0.5])]
    assert decimals(arms) == 5, "0.0004 has two digits at five decimals"
    assert decimals(arms[:1]) == 2
    assert decimals(arms[2:]) == 4


def test_the_table_for_a_paper_has_n_level_correction_and_split(found: dict[str, Any], tmp_path: Path) -> None:
    lines = markdown(found).splitlines()
    assert lines[0] == "| comparison | n | mean | difference | 95 % interval | p | time | verdict |"
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[2].startswith("| mixup with all others | 3 | 0.8520 | +0.0503 | [+0.0465, +0.0541] | ")
    assert lines[2].endswith(" | 1.33 | helps |")
    for words in ("test split", "3 paired seeds", "95 % t-interval", "corrected for 4 comparisons (Holm 1979)"):
        assert words in lines[-1]
    rows = [line for line in latex(found).splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {7}
    assert r"technique.label\_smoothing.epsilon=0.25 instead of 0.1" in rows[-1]
    assert latex(found).count("{") == latex(found).count("}")
    write_tables(tmp_path, found)
    assert (tmp_path / "ablation.md").read_text() == markdown(found)
    assert (tmp_path / "ablation.tex").read_text() == latex(found)


def test_the_forest_plot_is_plotlys_and_wraps_every_label() -> None:
    name = f"{LONG}=0.25 instead of 0.1 with all others <b>"
    drawn = forest([Row(name, 0.1, -0.1, 0.4, tone="good"), Row("b", -0.2)], "difference")
    go.Figure(drawn, skip_invalid=False)
    errors = drawn["data"][0]["error_x"]
    assert (errors["array"], errors["arrayminus"]) == ([pytest.approx(0.3)], [pytest.approx(0.2)])
    assert "error_x" not in drawn["data"][1]
    label = drawn["layout"]["annotations"][0]["text"]
    assert "&lt;b&gt;" in label
    assert all(len(line.replace("&lt;", "<").replace("&gt;", ">")) <= LONGEST for line in label.split("<br>"))


@pytest.fixture(scope="module")
def visit(found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``visit(width, scheme)`` opens the page; an error of a script fails the test."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "0").mkdir()
    outcome(0.8).summary.write(folder / "0" / "summary.json")
    (folder / "ablation.json").write_text(json.dumps(found))
    write(folder)
    with opened_browser() as browser, watched(browser) as go:
        yield lambda width, scheme="light": go(folder / "sweep.html", width, color_scheme=scheme)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_verdicts_numbers_and_labels_are_visible_on_every_screen(visit: Any, width: int, scheme: str) -> None:
    page = visit(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = "all => all.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right])"
    cells = page.eval_on_selector_all("#ablation .compact td span, #ablation .compact small", boxes)
    labels = page.eval_on_selector_all("#ablation .chart .annotation-text", boxes)
    assert (len(cells) > 16, len(labels)) == (True, 4)
    assert all(0 <= left <= right <= width for left, right in [*cells, *labels])
    texts = page.locator("#ablation .annotation-text").all_text_contents()
    assert texts[-1].replace("\n", "").replace(" ", "") == f"{LONG}=0.25insteadof0.1".replace(" ", "")
    tops = [page.locator(f"#ablation .{name}").first.bounding_box()["y"] for name in ("verdicts", "compact", "chart")]
    assert tops == sorted(tops)
    assert tops[0] < 200, "the verdict comes first"
    assert page.locator("#ablation .verdicts li").evaluate_all("all => all.map(e => e.className)") == [
        "good",
        "",
        "bad",
        "",
    ]


def test_the_tables_for_a_paper_are_copied(visit: Any, found: dict[str, Any]) -> None:
    page = visit(1280)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#ablation summary:has-text('Table for a paper')")
    for i, text in enumerate((markdown(found), latex(found))):
        page.locator("#ablation button.copy").nth(i).click()
        page.wait_for_function(
            "i => document.querySelectorAll('#ablation button.copy')[i].textContent == 'Copied'", arg=i
        )
        assert page.evaluate("navigator.clipboard.readText()") == text
