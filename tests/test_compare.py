"""``job=compare``: which runs are one configuration, what differs, the intervals, the command, and its refusals."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from compare_folders import record
from conftest import TINY, Outcome, command_environment
from scipy import stats

import mltricks
from mltricks.comparison.compared import Compared, compared
from mltricks.comparison.console import lines
from mltricks.comparison.entry import NO_PART, leaves
from mltricks.comparison.find import find_runs
from mltricks.comparison.page import sections
from mltricks.comparison.scores import score
from mltricks.config.settings import top_level
from mltricks.figures.parts import Chart, Table
from mltricks.intervals import wilson

MIXUP = {"technique.mixup": {"_target_": "mltricks.techniques.mixup.Mixup", "alpha": 0.2}}
SGD = {"optim": {"_target_": "mltricks.optim.sgd.SGD", "lr": 0.1, "momentum": 0.9}}


def of(*folders: Path) -> Compared:
    return compared(list(folders))


def differing(found: Compared) -> dict[str, tuple[str, ...]]:
    return {row.key: row.values for row in found.differences}


@pytest.mark.parametrize(
    "name", ["comparison.entry", "comparison.grouping", "comparison.console", "figures.comparison", "intervals"]
)
def test_doctests(name: str) -> None:
    found = doctest.testmod(import_module(f"mltricks.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_runs_that_differ_only_in_the_seed_are_one_configuration(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a"), record(tmp_path / "b", {"seed": 1})
    c = record(tmp_path / "c", {"seed": 1, **MIXUP})
    found = of(a, b, c)
    assert [[e.folder.name for e in one.entries] for one in found.configurations] == [["a", "b"], ["c"]]
    assert differing(found) == {"technique": ("none", "mixup")}
    assert found.names == ["none", "mixup"]


def test_equal_runs_count_once_and_the_one_that_trained_to_its_end_counts(tmp_path: Path) -> None:
    lost = record(tmp_path / "lost", status="interrupted", val=0.1)
    whole = record(tmp_path / "whole", {"name": "other", "data.root": "elsewhere"}, val=0.8)
    again = record(tmp_path / "again", val=0.7)
    one = of(lost, whole, again).configurations[0]
    assert [e.folder.name for e in one.counted] == ["whole"]
    assert [(e.folder.name, first.folder.name) for e, first in one.repeats] == [("lost", "whole"), ("again", "whole")]
    assert score(one, "val", "accuracy").value == 0.8
    said = " ".join(of(whole, again).warnings)
    assert "again has the configuration and seed of whole and is not counted, although their scores differ" in said


def test_the_order_of_techniques_is_a_difference(tmp_path: Path) -> None:
    ema = {"technique.ema": {"_target_": "mltricks.techniques.ema.EMA", "decay": 0.9}}
    found = of(record(tmp_path / "a", {**MIXUP, **ema}), record(tmp_path / "b", {**ema, **MIXUP}))
    assert differing(found) == {"technique": ("mixup+ema", "ema+mixup")}


def test_options_of_one_file_or_with_one_name_are_different() -> None:
    engines = [{"engine": {"_target_": f"mltricks.engine.{name}"}} for name in ("Eager", "Traced")]
    assert [dict(leaves(config))["engine"] for config in engines] == ["eager", "traced"]
    timm = {"model": {"_target_": "mltricks.models.timm.create_timm", "name": "resnet18"}}
    assert dict(leaves(timm)) == {"model": "timm", "model.name": "resnet18"}


def test_defaults_of_an_option_that_only_one_run_has_are_listed_only_if_typed(tmp_path: Path) -> None:
    adamw = record(tmp_path / "adamw")
    silent = of(adamw, record(tmp_path / "sgd", SGD, overrides=["optim=sgd"]))
    assert differing(silent) == {"optim": ("adamw", "sgd"), "optim.lr": ("0.003", "0.1")}
    typed = of(adamw, record(tmp_path / "typed", SGD, overrides=["optim=sgd", "optim.momentum=0.9"]))
    assert differing(typed)["optim.momentum"] == ("-", "0.9")


def test_settings_without_effect_are_those_of_the_configuration() -> None:
    known = {name for name in NO_PART if "." not in name}
    assert known - {"tracker", "job"} <= set(top_level()), "a name that is no setting any more"


def test_intervals_are_over_seeds_or_over_the_test_samples(tmp_path: Path) -> None:
    values = (0.80, 0.82, 0.87)
    seeds = [record(tmp_path / str(i), {"seed": i}, test=v, val=v) for i, v in enumerate(values)]
    single = record(tmp_path / "single", MIXUP, test=0.94)
    found = of(*seeds, single)
    over_seeds = score(found.configurations[0], "test", "accuracy")
    low, high = stats.t.interval(0.95, 2, sum(values) / 3, stats.sem(values))
    assert (over_seeds.low, over_seeds.high) == (pytest.approx(low), pytest.approx(high))
    alone = score(found.configurations[1], "test", "accuracy")
    assert (alone.low, alone.high) == wilson(47, 50), "0.94 of 50 samples"
    assert score(found.configurations[1], "val", "accuracy").low is None, "the best of several validations"
    assert score(found.configurations[1], "test", "loss").low is None, "a loss is no share"


def test_the_interval_of_a_share_stays_within_0_and_1(tmp_path: Path) -> None:
    high = of(*(record(tmp_path / str(i), {"seed": i}, test=v) for i, v in enumerate((0.90, 0.92, 0.97))))
    low = of(*(record(tmp_path / f"low{i}", {"seed": i}, test=v) for i, v in enumerate((0.10, 0.08, 0.03))))
    over_seeds = score(high.configurations[0], "test", "accuracy")
    assert (over_seeds.low > 0.8, over_seeds.high) == (True, 1.0)
    assert score(low.configurations[0], "test", "accuracy").low == 0.0


def test_the_interval_of_a_loss_does_not_go_below_0(tmp_path: Path) -> None:
    found = of(*(record(tmp_path / str(i), {"seed": i}, train={"loss": v}) for i, v in enumerate((0.1, 0.9))))
    over_seeds = score(found.configurations[0], "train", "loss")
    assert (over_seeds.value, over_seeds.low) == (pytest.approx(0.5), 0.0)


def test_a_loss_that_a_technique_made_negative_lies_within_its_interval(tmp_path: Path) -> None:
    found = of(*(record(tmp_path / str(i), {"seed": i}, train={"loss": v}) for i, v in enumerate((-0.3, -0.1))))
    over_seeds = score(found.configurations[0], "train", "loss")
    assert over_seeds.low < over_seeds.value == pytest.approx(-0.2)


def test_the_best_is_chosen_by_validation_and_not_by_test(tmp_path: Path) -> None:
    found = of(record(tmp_path / "a", val=0.9, test=0.1), record(tmp_path / "b", MIXUP, val=0.8, test=0.9))
    assert found.best == 0
    assert any("ran once" in text for text in found.warnings)
    tie = of(record(tmp_path / "c"), record(tmp_path / "d", MIXUP))
    assert tie.best is None


@pytest.mark.parametrize(
    ("changes", "summary", "said"),
    [
        ({"data.val_frac": 0.2}, {}, r"different data.*data.val_frac is 0.1 and 0.2"),
        ({"objective_metric": "val/f1"}, {}, "different data or by different metrics"),
        (MIXUP, {"samples": {"train": 100, "val": 11, "test": 50}}, "data have changed.*val split has 10"),
    ],
)
def test_other_data_are_warned_about_and_name_no_best(
    tmp_path: Path, changes: dict[str, Any], summary: dict[str, Any], said: str
) -> None:
    found = of(record(tmp_path / "a"), record(tmp_path / "b", changes, val=0.99, **summary))
    assert found.best is None
    assert any(re.search(said, text) for text in found.warnings), found.warnings


def test_a_smaller_training_split_is_a_difference_and_no_other_measure(tmp_path: Path) -> None:
    small = {"train": 50, "val": 10, "test": 50}
    found = of(record(tmp_path / "a"), record(tmp_path / "b", {"data.limit": 50}, val=0.7, samples=small))
    assert found.best == 0
    assert differing(found) == {"data.limit": ("null", "50")}


def test_the_content_of_data_that_can_change_is_compared(tmp_path: Path) -> None:
    """The labels of two users' tables of equal size and settings differ: only the checkpoints' fingerprints say so."""
    import torch

    for name, labels in (("a", [0, 1] * 60), ("b", [0, 1] * 60), ("c", [1, 0] * 60)):
        x, y = torch.randn(120, 5, generator=torch.Generator().manual_seed(0)), torch.tensor(labels)
        cfg = mltricks.compose(["model=mlp", "epochs=1", "plots=false", "progress=none", f"seed={int(name == 'b')}"])
        mltricks.train(cfg, data=[(x[part], y[part]) for part in torch.arange(120).split(40)], folder=tmp_path / name)
    assert not [text for text in of(tmp_path / "a", tmp_path / "b").warnings if "data" in text]
    said = of(tmp_path / "a", tmp_path / "c").warnings
    assert any("those of c are not those of a" in text for text in said)


def test_runs_that_did_not_end_are_shown_as_such(tmp_path: Path) -> None:
    whole = record(tmp_path / "whole")
    diverged = record(tmp_path / "diverged", MIXUP, status="diverged", error="diverged at step 3: the loss became nan.")
    running = record(tmp_path / "running", SGD, status=None)
    found = of(whole, diverged, running)
    said = "\n".join(found.warnings)
    assert "diverged diverged at step 3: the loss became nan. Its scores are left out." in said
    assert "running is unfinished. Its scores are left out." in said
    runs = next(s for s in sections(found) if s.title == "Runs").parts[0]
    assert isinstance(runs, Table)
    assert [row[3] for row in runs.rows] == ["completed", "diverged", "unfinished"]
    assert len(found.entries[2].curves["score"]) == 2, "what it has measured so far is drawn"


def test_every_figure_is_one_that_plotly_knows(tmp_path: Path) -> None:
    folders = [record(tmp_path / f"{i}", {"seed": i}) for i in range(3)]
    found = of(*folders, record(tmp_path / "b", MIXUP), record(tmp_path / "c", SGD, status=None))
    charts = [part for section in sections(found) for part in section.parts if isinstance(part, Chart)]
    assert [chart.name for chart in charts] == ["test_scores", "curves"]
    for chart in charts:
        go.Figure(chart.figure, skip_invalid=False)
    named = [trace["name"] for trace in charts[1].figure["data"] if trace["showlegend"]]
    assert sorted(named) == sorted(found.names), "a name for each configuration, not for each run"


@pytest.mark.parametrize("width", [80, 60])
def test_the_console_keeps_to_its_columns(tmp_path: Path, width: int) -> None:
    found = of(*[record(tmp_path / f"{i}", {"seed": i % 2, "optim.lr": 10.0**-i, "epochs": i}) for i in range(5)])
    shown = list(lines(found, "compare.html", width))
    assert max(map(len, shown)) <= width
    assert sum("optim.lr=" in line for line in shown) == 5


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ("", "runs is empty"),
        ("runs={0}/a", "is .*/a alone"),
        ("runs={0}/a+{0}/a", "is .*/a alone"),
        ("runs={0}/nowhere+{0}/a", "there is no such folder"),
        ("runs={0}/a/config.yaml+{0}/a", "that is a file"),
        ("runs={0}/empty+{0}/a", "is no run and holds none: a run has config.yaml and metrics.jsonl"),
        ("runs={0}/sweep", r"is a sweep.*python -m mltricks\.report"),
    ],
)
def test_what_is_no_run_is_refused_with_the_fix(tmp_path: Path, runs: str, said: str) -> None:
    record(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    record(tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    typed = runs.format(tmp_path).partition("=")[2]
    with pytest.raises(ValueError, match=said):
        find_runs([part for part in typed.split("+") if part])


def test_the_command_compares_runs_without_torch(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    for technique, seed in (("none", 0), ("none", 1), ("mixup", 0)):
        folder = tmp_path / "day" / f"{technique}{seed}"
        cfg = mltricks.compose([*TINY, "epochs=2", f"technique={technique}", f"seed={seed}"])
        mltricks.train(cfg, folder=folder)
    done = run_cli("job=compare", f"runs={tmp_path}/day", f"hydra.run.dir={tmp_path}/out")
    assert done.status == 0, done.err
    assert "3 runs, 2 configurations" in done.out
    assert done.out.endswith("out/compare.html\n")
    assert (tmp_path / "out" / "compare.html").stat().st_size > 1e6
    names = "+".join(f"{tmp_path}/day/{name}" for name in ("none0", "mixup0"))
    code = (
        "import sys; from mltricks.__main__ import main; "
        f"sys.argv[1:] = ['job=compare', 'runs={names}', 'hydra.run.dir={tmp_path}/two']; main(); "
        "assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=command_environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_command_refuses_what_changes_nothing(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    a, b = record(tmp_path / "a"), record(tmp_path / "b", MIXUP)
    done = run_cli("job=compare", f"runs={a}+{b}", "epochs=3", f"hydra.run.dir={tmp_path}/out")
    assert done.status == 1
    assert "epochs=3 has no effect on job=compare" in done.err
    assert not (tmp_path / "out").exists()
    assert "Type python -m mltricks job=compare runs=" in run_cli("job=compare").err


def test_a_folder_of_single_runs_is_sent_to_the_comparison(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    for seed in (0, 1):
        run_cli(*TINY, "max_steps=1", f"seed={seed}", f"hydra.run.dir={tmp_path}/day/{seed}")
    for options in ([], ["--watch"]):
        ran = subprocess.run(
            [sys.executable, "-m", "mltricks.report", str(tmp_path / "day"), *options],
            env=command_environment(),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 1
        assert (f"job=compare runs={tmp_path}/day" in ran.stderr) or options
        assert not (tmp_path / "day" / "sweep.html").exists()
