"""The recipe: findings from curves, the division of the budget, and the real command: whole, killed, refused."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import Outcome, command_environment

import mltricks
from mltricks.recipe.best import command, experiment
from mltricks.recipe.budget import SHARES, Budget, coarse_split, refine_split
from mltricks.recipe.curves import Curves, Finding, read_curves
from mltricks.recipe.rates import scope_of
from mltricks.recipe.reading import curves_of
from mltricks.recipe.rounds import follow
from mltricks.recipe.search import at, near, place, random_points
from mltricks.recipe.sweep import check_arguments, check_settings
from mltricks.recipe.tuner import changed
from mltricks.summary import read_summary
from mltricks.sweep.ranges import Choices, Span
from mltricks.sweep.record import fingerprint

DIGITS = ("data.limit=640", "model=mlp", "model.width=16", "progress=none")
RECIPE = ("-m", "hydra/sweeper=recipe", *DIGITS, "hydra.sweeper.budget_epochs=30")


def names(curves: Curves) -> list[str]:
    return [finding.name for finding in read_curves(curves)]


def decaying(rate: float, num: int = 20, floor: float = 0.5, top: float = 2.3) -> list[float]:
    return [floor + (top - floor) * math.exp(-rate * i) for i in range(num)]


LN10 = math.log(10)


def test_a_healthy_curve_has_a_plateau_and_no_other_finding() -> None:
    train = decaying(0.8, floor=0.1)
    assert names(Curves(train, [v + 0.05 for v in train], LN10, 1e-3)) == ["plateau"]


@pytest.mark.parametrize(
    ("curves", "wanted"),
    [
        (Curves([2.3 - 0.05 * i for i in range(20)], [2.3 - 0.05 * i for i in range(20)], LN10), "rate too low"),
        (Curves(decaying(0.8), decaying(0.8), LN10, 1e-6), "rate too low"),
        (Curves(decaying(0.8), decaying(0.8), LN10, 0.1), "rate too high"),
        (Curves([2.3, 1.6, 1.9, 1.4, 1.9, 1.3, 1.8, 1.4, 1.9, 1.4], [1.8] * 10, LN10), "rate too high"),
        (Curves([2.3, 2.2, 2.1], [2.2] * 3, LN10, None, True), "diverged"),
        (Curves([2.3] * 10, [2.3] * 10, LN10), "learns nothing"),
        (Curves([2.3, 2.3, 2.299, 2.298, 2.29, *decaying(0.9, 15)], [1.0] * 20, LN10), "bad start"),
        (Curves(decaying(0.5, floor=0.0), [1.2, 1.0, 0.8, *[0.6 + 0.05 * i for i in range(17)]], LN10), "overfitting"),
        (Curves(decaying(0.8, floor=1.2), decaying(0.8, floor=1.2), LN10), "underfitting"),
        (Curves(decaying(0.15), decaying(0.15), LN10), "still improving"),
        (Curves(decaying(0.9), decaying(0.9), LN10), "plateau"),
        (Curves([2.0, 1.0], [1.0, 0.9], LN10), "too short"),
    ],
)  # fmt: skip
def test_findings_of_typical_curves(curves: Curves, wanted: str) -> None:
    found = {finding.name: finding for finding in read_curves(curves)}
    assert wanted in found
    assert found[wanted].advice
    assert any(character.isdigit() for character in found[wanted].evidence) or wanted == "diverged"


def test_large_updates_mean_a_high_rate_only_with_an_uneven_curve() -> None:
    smooth = decaying(0.8, floor=0.1)
    assert "rate too high" not in names(Curves(smooth, smooth, LN10, 0.02))
    uneven = [v + 0.2 * (i % 2) for i, v in enumerate(decaying(0.8, floor=0.5))]
    assert "rate too high" in names(Curves(uneven, uneven, LN10, 0.02))


def test_only_learning_nothing_stops_the_recipe() -> None:
    severe = [finding.name for finding in read_curves(Curves([2.3] * 10, [2.3] * 10, LN10)) if finding.severe]
    assert severe == ["learns nothing"]
    assert not any(finding.severe for finding in read_curves(Curves(decaying(0.8), decaying(0.8), LN10, 0.1)))


def test_findings_change_the_next_round() -> None:
    domains = {"optim.lr": Span(1e-3, 1e-1, log=True), "optim.weight_decay": Span(1e-3, 0.3, log=True)}
    findings = [Finding("", "", "", {"optim.lr": 1 / 3}), Finding("", "", "", {"optim.weight_decay": 3.0, "x": 2.0})]
    point, opened = follow({"optim.lr": 2e-3, "optim.weight_decay": 0.01}, findings, domains)
    assert point == {"optim.lr": pytest.approx(6.67e-4), "optim.weight_decay": pytest.approx(0.03)}
    assert opened["optim.lr"] == Span(pytest.approx(6.67e-4), 1e-1, log=True)
    assert opened["optim.weight_decay"] == domains["optim.weight_decay"]


@pytest.mark.parametrize("epochs", [5, 10, 33, 100, 1000])
@pytest.mark.parametrize("steps", [40, 168, 1688])
def test_no_division_exceeds_the_budget(epochs: float, steps: int) -> None:
    budget = Budget(epochs, steps, 32)
    for split, name in ((coarse_split, "coarse"), (refine_split, "refine")):
        num, each = split(budget.share(name), budget)
        assert num * each <= budget.share(name)
        assert each >= 1
    assert sum(SHARES.values()) < 1
    budget.spend(budget.left)
    assert budget.left == 0
    with pytest.raises(AssertionError):
        budget.spend(1)


def test_a_budget_of_100_epochs() -> None:
    """A budget of 100 epochs gives coarse trials of 1 to 5 epochs, and refined ones of 10 to 20."""
    budget = Budget(100, 168, 32)
    assert coarse_split(budget.share("coarse"), budget) == (12, 2 * 168)
    assert refine_split(budget.share("refine"), budget) == (2, 12 * 168)


def test_random_points_fill_every_part_of_a_log_range() -> None:
    domains = {"lr": Span(1e-4, 1e-1, log=True), "width": Choices((16, 32), ("16", "32"))}
    points = random_points(domains, 30, "seed")
    parts = sorted(int(30 * place(domains["lr"], float(point["lr"])) + 1e-3) for point in points)  # type: ignore[arg-type]
    assert len(set(parts)) >= 28, "a value rounded to three digits may slip into the next part"
    assert {point["width"] for point in points} == {"16", "32"}
    assert points == random_points(domains, 30, "seed") != random_points(domains, 30, "other")
    close = near(domains, points[0], 10, "seed")
    assert close[0] == points[0]
    assert all(1e-4 <= float(p["lr"]) <= 1e-1 for p in close)
    assert at(Span(16, 128, whole=True), 0.5) == 72


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_updates(tmp_path: Path) -> None:
    rows = [(1, 10, 3.0), (1, 40, 1.0), (2, 80, 0.5)]
    lines = [{"step": s, "epoch": e, "split": "train", "loss": loss} for e, s, loss in rows]
    lines += [{"step": 40, "epoch": 1, "split": "val", "loss": 1.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves_of(tmp_path / "metrics.jsonl", 2.3)
    assert found.train == [(10 * 3.0 + 30 * 1.0) / 40, 0.5]
    assert found.val == [1.1]


def test_an_experiment_file_composes_to_the_same_configuration_as_its_command(tmp_path: Path) -> None:
    overrides = ["data=text", "technique=[mixup,ema]", "optim=sgd", "optim.lr=0.013", "scheduler=cosine", "seed=3",
                 "scheduler.warmup_frac=0.05", "objective_metric='val/loss'", "+data.extra={a: [1, x]}"]  # fmt: skip
    groups = ["data", "technique", "optim", "scheduler"]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/best.yaml").write_text(experiment(overrides, groups, ["What it is"]))
    assert mltricks.compose(["experiment=best"], str(tmp_path)) == mltricks.compose(overrides)
    based = experiment(["experiment=baseline", "optim.lr=0.02"], ["experiment", *groups], ["What it is"])
    (tmp_path / "experiment/best.yaml").write_text(based)
    wanted = mltricks.compose(["experiment=baseline", "optim.lr=0.02"])
    assert mltricks.compose(["experiment=best"], str(tmp_path)) == wanted


def test_overrides_replace_those_typed() -> None:
    base = ["data=digits", "+x=1", "scheduler=onecycle", "scheduler.peak_frac=0.2", "optim.lr=1"]
    assert changed(base, {"optim.lr": "2"}) == [*base[:-1], "optim.lr=2"]
    assert changed(base, {"scheduler": "constant", "x": "3"}) == [
        "data=digits",
        "optim.lr=1",
        "scheduler=constant",
        "x=3",
    ]


def test_rates_that_lower_the_loss_make_the_range() -> None:
    found = {"suggestion": 0.01, "breaks": 0.1}
    rates = [1e-3, 1e-2, 1e-1]
    scope = scope_of(found, rates, [1e-2])
    assert 1e-3 < scope.low < 1e-2 < scope.high < 1e-1
    whole = scope_of(found, rates, rates)
    assert (whole.low, whole.high) == (pytest.approx(1e-3 / 10**0.5, rel=0.01), 1e-1)
    assert scope_of(found, [], []) == Span(1e-3, 0.1, log=True)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "recipe.json").read_text())


def samples_of(folder: Path) -> int:
    """The number of samples trained on in all jobs of a recipe with batches of 32, from the records of the jobs."""
    total = 0
    for path in folder.glob("*/summary.json"):
        job = (
            yaml.safe_load((path.parent / "config.yaml").read_text()) if (path.parent / "config.yaml").exists() else {}
        )
        if not job:
            found = next(json.loads(p.read_text()) for p in path.parent.glob("*.json") if p.name != "summary.json")
            total += found.get("samples", 32 * found["steps"])
        else:
            summary = read_summary(path)
            assert summary is not None
            total += 32 * summary.steps
    return total


def test_the_recipe_runs_to_its_end(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*RECIPE, "hydra.sweep.dir=sweep", "hydra.sweeper.tune=batch_size")
    assert done.status == 1, "settings that define the unit of the budget are refused before the first job"
    assert "tune=batch_size" in done.err
    assert not list(tmp_path.glob("sweep/*/summary.json"))

    done = run_cli(*RECIPE, "hydra.sweep.dir=sweep", timeout=300)
    assert done.status == 0, done.err
    found = read(tmp_path / "sweep")
    assert [gate["step"] for gate in found["gates"]][:6] == [1, 2, 3, 4, 5, 6]
    assert found["gates"][-1]["name"] == "final run"
    assert {gate["verdict"] for gate in found["gates"]} <= {"pass", "warn", "skipped"}
    assert all(gate["verdict"] != "pass" for gate in found["gates"] if gate["advice"]), "advice is never green"
    labels = [gate["label"] for gate in found["gates"]]
    assert len(set(labels)) == len(labels), "every step has a number of its own"
    assert all(gate["reason"] and gate["evidence"] is not None for gate in found["gates"])
    assert found["gates"][0]["evidence"]["expected"] == pytest.approx(math.log(10), abs=1e-4)
    jobs = sorted(job for gate in found["gates"] for job in gate["jobs"])
    assert jobs == sorted(int(path.parent.name) for path in tmp_path.glob("sweep/*/summary.json"))
    assert found["status"] == "finished"

    epoch = 640 // 32 * 32
    assert samples_of(tmp_path / "sweep") <= 30 * epoch, "the budget is exact"
    assert found["spent_epochs"] <= 30
    assert found["spent_epochs"] > 28, "the budget is nearly used up"
    assert sum(gate["epochs"] for gate in found["gates"]) == pytest.approx(found["spent_epochs"], abs=0.01)

    best = found["best"]
    kept = read_summary(tmp_path / "sweep" / str(best["job"]) / "summary.json")
    assert kept is not None
    assert kept.val["accuracy"] > 0.8
    assert best["command"] in done.out
    again = run_cli(*shlex.split(best["command"])[3:], "hydra.run.dir=again")
    assert again.status == 0, again.err
    repeated = read_summary(tmp_path / "again/summary.json")
    assert repeated is not None
    assert repeated.test["accuracy"] == pytest.approx(kept.test["accuracy"], abs=0.02)
    from_yaml = run_cli(*shlex.split(best["experiment_command"])[3:], "hydra.run.dir=yaml")
    assert from_yaml.status == 0, from_yaml.err
    said = read_summary(tmp_path / "yaml/summary.json")
    assert said is not None
    assert said.test == repeated.test


def test_a_killed_recipe_continues_where_it_stopped(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    arguments = [*RECIPE, "hydra.sweep.dir=sweep"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mltricks", *arguments],
        cwd=tmp_path,
        env=command_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("sweep/*/summary.json"))) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/summary.json")}
    assert len(finished) >= 6
    done = run_cli(*arguments, timeout=300)
    assert done.status == 0, done.err
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items()), "no finished job is run again"
    found = read(tmp_path / "sweep")
    assert found["status"] == "finished"
    assert found["spent_epochs"] <= 30

    quick = run_cli(*arguments, timeout=300)
    assert quick.status == 0, quick.err
    assert read(tmp_path / "sweep")["best"] == found["best"], "the same command repeats the same result"


def test_a_failed_gate_stops_with_advice_and_can_be_forced(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    heavy = [*RECIPE, "init=orthogonal", "init.gain=300", "hydra.sweep.dir=sweep"]
    done = run_cli(*heavy)
    assert done.status == 1
    assert "step 1 (initial loss) failed" in done.err
    assert "init.gain" in done.err
    found = read(tmp_path / "sweep")
    assert found["status"] == "stopped"
    assert [gate["verdict"] for gate in found["gates"]] == ["fail"]
    assert len(list(tmp_path.glob("sweep/*/summary.json"))) == 1
    forced = run_cli(*heavy, "hydra.sweeper.force=true", "hydra.sweeper.budget_epochs=10", timeout=300)
    assert len(read(tmp_path / "sweep")["gates"]) > 1, forced.err


def test_impossible_recipes_are_refused(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    loader = SimpleNamespace(get_group_options=lambda group: [])
    for argument, said in (("epochs=3", "chooses epochs itself"), ("optim.lr=0.1,0.2", "takes one value")):
        with pytest.raises(ValueError, match=said):
            check_arguments([argument], loader)
    fine = {"budget_epochs": 30, "force": False, "tune": [], "schedule": "cosine", "warmup_frac": 0.1, "search_seed": 0}
    check_settings(fine)
    with pytest.raises(ValueError, match=r"budget_epochs=-1 is out of range"):
        check_settings({**fine, "budget_epochs": -1})
    done = run_cli(*RECIPE, "hydra.sweep.dir=sweep", "hydra.sweeper.budget_epochs=2")
    assert done.status == 1
    assert "budget_epochs=10 or more" in done.err
    assert not (tmp_path / "sweep").exists()


def test_the_printed_command_leaves_out_force() -> None:
    assert fingerprint([*RECIPE, "hydra.sweeper.force=true"]) == fingerprint(RECIPE) == list(RECIPE)


def test_the_command_of_the_best_configuration() -> None:
    assert command(["a=1"], ["--config-dir", "a b"]) == 'python -m mltricks --config-dir "a b" a=1'
