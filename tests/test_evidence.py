"""The measured effects: read, told in words, drawn, and shown on their page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mltricks.about import effects as effects_page
from mltricks.about.formula import formula_of
from mltricks.evidence import table
from mltricks.evidence.table import Row, Task, difference_words, effect_words, effects_of, tasks
from mltricks.figures.effects import Mark, effects

ROOT = Path(__file__).resolve().parents[1]
FACTS = {"commit": "abc1234", "date": "2026-11-28", "environment": "torch 2.15.0", "seeds": 5}


def row(option: str, difference: float, low: float, high: float, verdict: str, **more: Any) -> dict[str, Any]:
    known = {"control": "", "beside": [], "n": 5, "lost": 0, "mean": 0.9, "p_value": 0.01, "cost": 1.25, "tuned": []}
    return known | {
        "option": option,
        "difference": difference,
        "interval": [low, high],
        "verdict": verdict,
        **more,
    }


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the table of one task, read in place of the package's own."""
    content = {
        "title": "digits, MLP",
        "baseline": ["data=digits", "model=mlp"],
        "metric": "test/accuracy",
        "baseline_mean": 0.95,
        "rows": [
            row("technique=mixup", 0.012, 0.004, 0.02, "helps"),
            row("technique=flip", -0.3, -0.4, -0.2, "hurts", lost=1, n=4),
            row("optim=sgd", 0.001, -0.002, 0.004, "no evidence", control="adamw"),
        ],
        "unmeasured": {"technique=simclr": "it learns without labels"},
        "command": "python benchmarks/evidence.py --tasks digits_mlp",
        "about": FACTS,
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "digits_mlp.json").write_text(json.dumps(content))
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    monkeypatch.setattr(effects_page, "FOLDER", tmp_path)
    tasks.cache_clear()
    yield tmp_path
    tasks.cache_clear()


def test_an_option_has_a_line_for_every_task(measured: Path) -> None:
    assert effects_of("technique=mixup") == [
        "digits, MLP: helps, accuracy +1.20 points (+0.40 to +2.00), n=5, step 1.25 times as long"
    ]
    assert effects_of("optim=sgd")[0].endswith("instead of adamw")
    assert effects_of("technique=simclr") == ["digits, MLP: not measured; it learns without labels"]
    assert effects_of("technique=ema") == []


def test_an_interval_that_chance_explains_says_among_what() -> None:
    alone = Row("a=b", "", [], 5, 0, 0.9, 0.011, [0.005, 0.016], 0.005, "no evidence", None, [])
    assert effect_words(alone, "test/accuracy") == (
        "no evidence among all rows of the task, accuracy +1.10 points (+0.50 to +1.60), n=5"
    )
    assert effect_words(replace(alone, interval=[-0.01, 0.02]), "test/accuracy").startswith("no evidence, accuracy")


def test_a_loss_is_told_in_its_own_unit() -> None:
    found = Row("a=b", "", [], 5, 0, 1.0, -0.01234, [-0.02, -0.004], 0.01, "helps", None, [])
    assert difference_words(found, "test/loss") == "-0.0123 (-0.0200 to -0.0040)"


def test_the_page_marks_what_is_proven_and_names_what_was_not_measured(measured: Path) -> None:
    text = effects_page.effects_page()
    assert "| `technique=mixup` | **+1.20 (+0.40 to +2.00)** | 1.25 |" in text
    assert "| `technique=flip` | **-30.00 (-40.00 to -20.00)**, 1 lost | 1.25 |" in text
    assert "| `optim=sgd` | +0.10 (-0.20 to +0.40) | 1.25 |" in text
    assert "- `technique=simclr`: it learns without labels." in text
    assert "- `technique=ema`: not yet." in text
    assert "`optim=adamw`:" not in text, "the others are compared with it"
    assert text.index("## optim") < text.index("## technique")


def test_costs_are_shown_with_their_spread(measured: Path) -> None:
    rows = [
        {"option": "technique=sam", "median": 1.94, "low": 1.9, "high": 2.0, "n": 9},
        {"option": "a=b", "refused": "c"},
    ]
    content = {"command": "python benchmarks/costs.py", "baseline": ["data=digits"], "about": FACTS, "rows": rows}
    (measured / "costs.json").write_text(json.dumps(content))
    text = effects_page.effects_page()
    assert "| `technique=sam` | 1.94 (1.90 to 2.00) | 9 |" in text
    assert "a=b" not in text


def test_the_figure_keeps_marks_beyond_its_reach_at_the_border(measured: Path) -> None:
    figure = effects_page.effects_figure()
    marks = {t["marker"]["color"]: t for t in figure["data"]}
    helps, hurts = marks["#2e9e5b"], marks["#d1495b"]
    assert helps["x"] == pytest.approx([1.2])
    assert helps["error_x"]["array"] == pytest.approx([0.8])
    assert helps["error_x"]["arrayminus"] == pytest.approx([0.8])
    assert hurts["x"] == [-5.0]
    assert hurts["marker"]["symbol"] == ["triangle-left"]
    labels = figure["layout"]["yaxis"]["ticktext"]
    assert labels == ["<b>optim</b>", "sgd", "<b>technique</b>", "flip", "mixup"]
    assert [t["y"] for t in figure["data"]] == [[-4], [-3], [-1]]


def test_an_interval_ends_at_the_border() -> None:
    figure = effects({"a": "a"}, [("task", [Mark("a", 4.0, -20.0, 30.0, "", "said")])], 5.0, "points")
    ends = figure["data"][0]["error_x"]
    assert (ends["array"], ends["arrayminus"]) == ([1.0], [9.0])


def test_the_tables_of_the_package_can_be_read() -> None:
    assert all(isinstance(task, Task) and task.rows for task in tasks())


def test_the_readme_counts_what_the_tables_hold() -> None:
    verdicts = Counter(row.verdict for task in tasks() for row in task.rows)
    said = f"{verdicts['helps']} help, {verdicts['hurts']} hurt, {verdicts['no evidence']} show no evidence"
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if "make evidence" in line)
    assert f"[{verdicts.total()} effects]" in line
    assert said in line


def test_a_formula_is_the_first_paragraph_of_the_class() -> None:
    assert formula_of("mltricks.techniques.ema.Ema").startswith("average = decay average")
    assert formula_of("torch.nn.Linear") == ""
    assert formula_of("mltricks.techniques.ema.Nobody") == ""
