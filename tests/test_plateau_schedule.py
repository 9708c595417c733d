"""The schedule that follows the validation score: torch's rules, exact resumes, every engine, and no stacks."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome
from contract import make
from test_kill import assert_equal_runs, go_on
from torch.optim.lr_scheduler import ReduceLROnPlateau

import mltricks
from mltricks.config.compose import plain
from mltricks.config.create import create
from mltricks.hyper import CHUNK, Hypers
from mltricks.observers.files import read_records
from mltricks.schedules.drives import schedule_defaults
from mltricks.stack.run import StackedRun, build_all


def plateau(**settings: Any) -> Any:
    return create({**schedule_defaults("plateau", "scheduler"), **settings}, "scheduler")


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(("patience", "cooldown", "least"), [(0, 0, 0.0), (2, 0, 0.05), (1, 3, 0.0), (3, 1, 0.3)])
def test_the_factors_are_torchs(mode: str, threshold_mode: str, patience: int, cooldown: int, least: float) -> None:
    generator = random.Random(patience)
    scores = [generator.choice([0.5, 0.501, 0.55, 0.6, 0.4]) for _ in range(60)]
    ours = plateau(
        gamma=0.5, patience=patience, threshold=0.01, threshold_mode=threshold_mode, cooldown=cooldown, min_factor=least
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = ReduceLROnPlateau(optimizer, mode, 0.5, patience, 0.01, threshold_mode, cooldown, least)  # type: ignore[arg-type]
    for i, score in enumerate(scores):
        theirs.step(score)
        found = ours.after(0.5, tuple(scores[: i + 1]), mode == "max")
        if optimizer.param_groups[0]["lr"] > 1e-7:  # torch makes no change smaller than its eps
            assert found == optimizer.param_groups[0]["lr"]


def test_the_factor_multiplies_the_warmup_and_drives_any_float() -> None:
    run = make("optim.weight_decay={schedule: plateau, start: 0.5, end: 0.1, patience: 0, gamma: 0.5}")
    run.hypers.follow([(10, 0.6), (20, 0.6), (30, 0.7)], True)
    assert run.hypers.values(19)["optim", "weight_decay"] == 0.5
    assert run.hypers.values(20)["optim", "weight_decay"] == pytest.approx(0.3)
    assert run.hypers.values(50)["optim", "weight_decay"] == pytest.approx(0.3)
    warm = plateau(warmup_frac=0.5, patience=0)
    assert warm.after(0.25, (0.5, 0.5), True) == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"scheduler\.gamma=1\.0 is out of range"):
        plateau(gamma=1.0)


def test_a_run_that_validates_too_seldom_for_a_drop_says_so() -> None:
    """SMALL has 4 epochs, so 3 validations before the last update; the first one always improves."""
    decay = "optim.weight_decay={schedule: plateau, start: 0.5, end: 0.1, patience: 1}"
    assert not any("drop" in line for line in make("scheduler=plateau", "scheduler.patience=1", decay).messages)
    (line,) = make("scheduler=plateau", "scheduler.patience=2", decay).messages
    assert line.startswith("note: optim.lr cannot drop: that takes 4 validations, and this run makes 3 before")
    assert line.endswith("Type scheduler.patience=1, or more epochs.")
    (line,) = make("scheduler=plateau", "scheduler.patience=1", decay, "eval_every_epochs=2").messages
    assert line.startswith("note: optim.weight_decay and optim.lr cannot drop: that takes 3 validations, and")
    assert line.endswith("makes 1 before its last update. Type more epochs.")
    (line,) = make("scheduler=plateau", "scheduler.patience=1", decay, "epochs=9", "max_steps=50").messages
    assert line.endswith("Type optim.weight_decay.patience=0 scheduler.patience=0, or a larger max_steps.")


def test_tables_of_the_tracing_engines_are_made_again_after_a_validation() -> None:
    hypers = Hypers({"optim": {"lr": 1.0}}, {("optim", "lr"): plateau(patience=0).between(1.0, 0.0)}, 600)
    tables = Hypers(hypers.constants, hypers.drives, 600, torch.device("cpu"))
    scores: list[tuple[int, float]] = []
    for step in (0, 5, CHUNK - 1, CHUNK + 1, 500):
        assert float(tables.at(step)["optim"]["lr"]) == pytest.approx(hypers.at(step)["optim"]["lr"])
        scores.append((step, 0.5))
        for one in (hypers, tables):
            one.follow(scores, True)
        assert float(tables.at(step)["optim"]["lr"]) == pytest.approx(hypers.at(step)["optim"]["lr"])
    assert hypers.at(600)["optim"]["lr"] == pytest.approx(1e-4)


RUN = (*TINY, "epochs=6", "optim=sgd", "optim.lr=0.3", "scheduler=plateau", "scheduler.patience=0", "log_every=5")
RUN = (*RUN, "scheduler.gamma=0.5", "scheduler.threshold=0.3", "checkpoint_every_steps=7")


def rates(folder: Path) -> list[float]:
    return [line["lr"] for line in read_records(folder / "metrics.jsonl") if line["split"] == "train"]


def expected_rates(folder: Path) -> list[float]:
    """The learning rates that torch's class sets from the validation records."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = ReduceLROnPlateau(optimizer, "max", 0.5, 0, 0.3)
    found = []
    for line in read_records(folder / "metrics.jsonl"):
        if line["split"] == "train":
            found.append(optimizer.param_groups[0]["lr"])
        elif line["split"] == "val":
            theirs.step(line["accuracy"])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    mltricks.train(mltricks.compose(RUN), folder)
    return folder


def test_a_run_follows_its_validation_score(whole: Path) -> None:
    assert rates(whole) == pytest.approx(expected_rates(whole))
    assert len(set(rates(whole))) > 2


def test_a_killed_run_resumes_exactly(run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path) -> None:
    stopper = ["tracker=custom", "tracker._target_=stopper.Stopper", "allow_modules=[stopper]"]
    for at in (38, 41):  # after the third and the fourth validation, between checkpoints
        when = ["+tracker.moment=step", f"+tracker.at={at}", "+tracker.number=9"]
        folder = tmp_path / str(at)
        helpers = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(mltricks.__file__).parents[1])])}
        done = run_cli(*RUN, f"hydra.run.dir={folder}", *stopper, *when, env=helpers)
        assert done.status == -9, done.err
        go_on(folder)
        assert_equal_runs(folder, whole)


def test_traced_equals_eager(whole: Path, tmp_path: Path) -> None:
    mltricks.train(mltricks.compose([*RUN, "engine=traced"]), tmp_path / "traced")
    assert rates(tmp_path / "traced") == pytest.approx(rates(whole))


def test_it_is_not_stacked_and_the_reason_is_said() -> None:
    for setting in ("scheduler=plateau", "optim.weight_decay={schedule: plateau, start: 0.1, end: 0}"):
        cfgs = [plain(mltricks.compose([*TINY, setting, f"seed={seed}"])) for seed in range(2)]
        said = r"(scheduler|optim\.weight_decay) follows the validation score, and the rounding of a stack"
        with pytest.raises(ValueError, match=said):
            StackedRun(build_all(cfgs))


def test_a_sweep_trains_its_runs_one_by_one(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("-m", *TINY, "epochs=1", "scheduler=plateau", "seed=0,1", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    assert "jobs 0 to 1 run one by one: scheduler follows the validation score" in done.out + done.err
    assert (done.out + done.err).count("note: optim.lr cannot drop") == 1, "a note of several runs is printed once"
    assert [json.loads((tmp_path / f"sweep/{n}/summary.json").read_text())["status"] for n in (0, 1)] == [
        "completed"
    ] * 2


def test_a_run_that_ended_off_its_validations_is_not_made_longer(tmp_path: Path) -> None:
    short = [*RUN, "epochs=9", "max_steps=15"]
    mltricks.train(mltricks.compose(short), tmp_path / "a")
    with pytest.raises(ValueError, match=r"a plateau schedule has counted the validation at its end"):
        mltricks.train(mltricks.compose([*short[:-1], "max_steps=30"]), tmp_path / "a", resume=True)
