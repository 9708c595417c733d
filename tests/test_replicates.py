"""Seeds as replicates of a trial: mean, standard deviation, when a trial is dropped, and no seed is run twice."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import TINY

from mltricks.study.measures import Goals
from mltricks.study.queue import Asked
from mltricks.study.replicates import Replicates
from mltricks.summary import Summary, read_summary

BEST = {0: [0.9], 1: [0.8], 2: [0.85]}
"""Scores of the best trial by seed. The effect of a seed is common to all trials: seed 1 lowers the score."""


def replicates(num: int = 4, direction: str = "maximize") -> Replicates:
    return Replicates(num, 0, 0.95, Goals(("val/accuracy",), (direction,), "val/accuracy"))


class Launched:
    """Replaces the launcher: it looks up the value of each job and records the rounds."""

    def __init__(self, values: dict[str, list[float | str]]):
        self.values, self.rounds = values, []

    def __call__(self, jobs: list[tuple[int, list[str]]]) -> list[Summary]:
        self.rounds.append([num for num, _ in jobs])
        return [self.summary(*(word.partition("=")[2] for word in job)) for _, job in jobs]

    def summary(self, n: str, seed: str) -> Summary:
        value = self.values[n][int(seed)]
        status = value if isinstance(value, str) else "completed"
        return Summary(status, objective={"name": "val/accuracy", "value": value})


def trials(*numbers: int) -> list[Asked]:
    """Trials of a real Optuna study in memory."""
    study = optuna.create_study(direction="maximize")
    made = [study.ask() for _ in range(max(numbers) + 1)]
    return [Asked(made[n], [f"n={n}"]) for n in numbers]


def test_a_clearly_worse_trial_is_dropped_after_its_second_seed_and_a_close_one_is_not() -> None:
    launched = Launched({"0": [0.90, 0.80, 0.85, 0.88], "1": [0.50, 0.41, 0.1, 0.1], "2": [0.89, 0.81, 0.84, 0.89]})
    told = {a.number: verdict for a, verdict in replicates().run(trials(0, 1, 2), launched, {})}
    assert launched.rounds == [[0, 4, 8], [1, 5, 9], [2, 10], [3, 11]]
    assert (told[1].state, told[1].values) == ("PRUNED", (pytest.approx(0.455),))
    assert (told[0].state, told[0].values) == ("COMPLETE", (pytest.approx(0.8575),))
    assert told[2].state == "COMPLETE"


def test_trials_are_compared_with_the_best_of_the_study_on_the_seeds_that_both_have() -> None:
    launched = Launched({"0": [0.70, 0.61, 0.65, 0.7]})
    ((_, verdict),) = replicates().run(trials(0), launched, BEST)
    assert verdict.state == "PRUNED"
    assert launched.rounds == [[0], [1]]
    ((_, verdict),) = replicates(direction="minimize").run(trials(0), launched, BEST)
    assert verdict.state == "COMPLETE"


def test_one_seed_that_diverges_ends_the_trial() -> None:
    launched = Launched({"0": [0.9, "diverged"], "1": ["failed"], "2": ["interrupted"], "3": [0.9, 0.8, 0.9, 0.9]})
    told = {a.number: verdict.state for a, verdict in replicates().run(trials(0, 1, 2, 3), launched, {})}
    assert told == {0: "PRUNED", 1: "FAIL", 2: "INTERRUPTED", 3: "COMPLETE"}


def test_seeds_of_an_interrupted_trial_are_not_run_again(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    first = study.ask()
    for num, value in ((0, 0.9), (2, 0.7)):
        Summary("completed", objective={"value": value}).write(tmp_path / str(num) / "summary.json")
    Summary("interrupted").write(tmp_path / "1" / "summary.json")
    study.enqueue_trial({}, user_attrs={"retry_of": first.number})
    again = Asked(study.ask(), ["n=1"])
    three, launched = replicates(3), Launched({"1": [0.0, 0.8, 0.0]})
    three.inherit(again, study, tmp_path)
    ((_, verdict),) = three.run([again], launched, {})
    assert launched.rounds == [[4]]
    assert (verdict.state, verdict.values) == ("COMPLETE", (pytest.approx(0.8),))


def test_replicates_end_to_end(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    command = ["-m", "hydra/sweeper=study", "study.sampler=grid", "replicates=3", "study_name=r", "seed=5", "epochs=3"]
    done = run_cli(*command, "optim.lr=1e-6,1e-2", *TINY)
    assert done.status == 0, done.err
    folder = tmp_path / "multirun" / "r"
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    values = [read_summary(folder / str(num) / "summary.json").objective["value"] for num in (3, 4, 5)]
    overrides = [yaml.safe_load((folder / str(num) / ".hydra/overrides.yaml").read_text())[-1] for num in (3, 4, 5)]
    assert overrides == ["seed=5", "seed=6", "seed=7"]
    assert found["best_params"] == {"optim.lr": 0.01}
    assert found["best_value"] == pytest.approx(statistics.mean(values))
    assert found["replicates"]["std"] == pytest.approx(statistics.stdev(values))
    assert found["replicates"]["values"] == dict(zip("567", values, strict=True))
    assert json.loads((folder / "sweep.json").read_text())["status"] == "finished"
    assert "mean of 3 seeds" in done.out
