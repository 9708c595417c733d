"""Trials that report to a study and are pruned: alone, by the real command, and in a stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import TINY, Outcome
from test_fused import MLP, alone, assert_equal, jobs_of, records, summary_of

import mltricks
from mltricks.launch.fused import train_fused
from mltricks.observers.create import InSweep
from mltricks.pruning.reporter import Token
from mltricks.pruning.storage import open_storage
from mltricks.summary import Summary

ASHA = {"pruner": "asha", "asha": {"eta": 2, "min_epochs": 1}}


@pytest.fixture
def study(tmp_path: Path) -> tuple[str, optuna.Study]:
    """The URL of a study in a file, without trials, and the study itself."""
    url = f"sqlite:///{tmp_path}/study.db"
    return url, optuna.create_study(storage=open_storage(url), study_name="s", direction="maximize")


def tokens(study: tuple[str, optuna.Study], num: int, epochs: int, rule: dict[str, Any]) -> list[str]:
    """Ask the study for trials, so that they are running; return their tokens."""
    url, kept = study
    return [Token(url, "s", kept.ask().number, "maximize", rule, epochs).encode() for _ in range(num)]


def reported(study: tuple[str, optuna.Study]) -> list[dict[int, float]]:
    return [trial.intermediate_values for trial in study[1].get_trials()]


def test_a_hopeless_run_reports_and_is_pruned(
    study: tuple[str, optuna.Study], run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Another trial has a perfect score, so the run ends at the first rung. It is not tested, and has a checkpoint."""
    good, token = tokens(study, 2, 4, ASHA)
    assert good != token
    url = study[0]
    storage = open_storage(url)
    storage.set_trial_intermediate_value(study[1].get_trials()[0]._trial_id, 1, 1.0)
    folder = tmp_path / "run"
    listen = f"hydra.job.env_set.MLTRICKS_TRIAL={token}"
    done = run_cli(*TINY, "epochs=4", "optim.lr=1e-6", f"hydra.run.dir={folder}", listen)
    assert (done.status, done.err) == (0, ""), done.err
    summary = summary_of(folder)
    assert (summary["status"], summary["epochs"], summary["test"]) == ("pruned", 1, {})
    val = [line for line in records(folder) if line["split"] == "val"]
    assert reported(study)[1] == {1: val[0]["accuracy"]}
    assert summary["objective"]["value"] == val[0]["accuracy"]
    assert (folder / "checkpoints/last.pt").is_file()
    assert run_cli(f"resume={folder}").out.startswith(str(folder)), (
        "a pruned run is finished: resume only prints its result"
    )


def test_a_run_that_is_not_pruned_equals_a_run_without_a_study(study: tuple[str, optuna.Study], tmp_path: Path) -> None:
    (token,) = tokens(study, 1, 3, ASHA)
    cfg = mltricks.compose([*MLP, "epochs=3", "progress=none"])
    listened = mltricks.train(cfg, tmp_path / "listened", in_sweep=InSweep(token))
    assert listened.status == "completed"
    val = {line["epoch"]: line["accuracy"] for line in records(tmp_path / "listened") if line["split"] == "val"}
    assert reported(study) == [{epoch: val[epoch] for epoch in (1, 2)}], (
        "the last validation is the result and is not reported"
    )
    mltricks.train(mltricks.compose([*MLP, "epochs=3", "progress=none", "plots=false"]), tmp_path / "unheard")
    assert records(tmp_path / "listened") == records(tmp_path / "unheard")


def test_a_stack_is_halved_as_in_successive_halving(study: tuple[str, optuna.Study], tmp_path: Path) -> None:
    """Eight members, eta 2: four continue after epoch 1, two after epoch 2, one after epoch 4. All report before any is
    judged, so the order of reports does not matter."""
    rates = [1e-6, 1e-1, 1e-5, 3e-2, 1e-4, 1e-2, 3e-6, 3e-3]
    shared, varied = [*MLP, "optim=sgd", "epochs=6"], [[f"optim.lr={rate}"] for rate in rates]
    jobs = jobs_of(tmp_path / "fused", shared, varied)
    for job, token in zip(jobs, tokens(study, len(jobs), 6, ASHA), strict=True):
        job.trial = token
    told: list[tuple[int, Summary]] = []
    train_fused(jobs, lambda job, summary: told.append((job.num, summary)))
    ends = {num: (summary.status, summary.epochs) for num, summary in told}
    assert sorted(ends.values()) == [
        ("completed", 6),
        *[("pruned", 1)] * 4,
        *[("pruned", 2)] * 2,
        ("pruned", 4),
    ]
    assert [summary.epochs for _, summary in told] == sorted(summary.epochs for _, summary in told), (
        "a pruned member is reported at once"
    )
    alone(tmp_path / "alone", shared, varied)
    at_first = {}
    for num in range(8):
        whole, mine = records(tmp_path / "alone" / str(num)), records(tmp_path / "fused" / str(num))
        at_first[num] = next(line["accuracy"] for line in whole if line["split"] == "val")
        assert_equal(mine, whole[: len(mine)], f"{num}")
        val = {line["epoch"]: line["accuracy"] for line in mine if line["split"] == "val"}
        rungs = [epoch for epoch in (1, 2, 4) if epoch in val]
        assert reported(study)[num] == {epoch: val[epoch] for epoch in rungs}
        assert (ends[num][0] == "pruned") == (summary_of(tmp_path / "fused" / str(num))["test"] == {})
    ranked = sorted(at_first, key=lambda num: (-at_first[num], num))
    assert {num for num, end in ends.items() if end[1] > 1} == set(ranked[:4])


def test_objective_metric_is_reported(study: tuple[str, optuna.Study], tmp_path: Path) -> None:
    (token,) = tokens(study, 1, 2, ASHA)
    cfg = mltricks.compose([*MLP, "epochs=2", "progress=none", "objective_metric=val/f1"])
    mltricks.train(cfg, tmp_path / "run", in_sweep=InSweep(token))
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    first = next(line for line in map(json.loads, lines) if line["split"] == "val")
    assert reported(study) == [{1: first["f1"]}]
