"""W&B: a sweep is a group and a trial one of its runs, with any launcher; read back from the offline files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome
from wandb_file import Logged, read_wandb

HOME = {"NETRC": "/nonexistent", "WANDB_ERROR_REPORTING": "false"}
SHORT = (
    "model=mlp",
    "data.limit=320",
    "plots=false",
    "progress=none",
    "epochs=2",
    "tracker=wandb",
    "tracker.mode=offline",
)

RUNNERS: dict[str, tuple[str, ...]] = {
    "fused": ("hydra.launcher.fuse=true",),
    "one by one": ("hydra.launcher.fuse=false",),
    "basic": ("hydra/launcher=basic",),
    "basic sweeper": ("hydra/launcher=basic", "hydra/sweeper=basic"),
    "optuna": ("hydra/launcher=basic", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_sweep_is_one_group_and_a_trial_one_run(run_cli: Callable[..., Outcome], tmp_path: Path, runner: str) -> None:
    sweep = tmp_path / "sweeps" / "nightly"
    kept = ["tracker.log_model=true", "name=rates"] if runner == "fused" else []
    done = run_cli("-m", *SHORT, "optim.lr=1e-3,1e-2", *kept, *RUNNERS[runner], f"hydra.sweep.dir={sweep}", env=HOME)
    assert done.status == 0, done.err
    logged = [read_wandb(sweep / str(i)) for i in range(2)]
    assert {(r.run.project, r.run.run_group, r.run.job_type) for r in logged} == {("mltricks", "nightly", "trial")}
    assert [r.run.display_name for r in logged] == (["rates 000", "rates 001"] if kept else ["000", "001"])
    if runner != "optuna":  # which chooses the values in its own order
        assert [r.config["sweep"] for r in logged] == [{"optim.lr": 1e-3}, {"optim.lr": 1e-2}]
    assert [len([a for a in r.artifacts if a.type == "model"]) for r in logged] == ([1, 1] if kept else [0, 0])
    assert len({r.run.run_id for r in logged}) == 2
    for i, run in enumerate(logged):
        holds_what_was_measured(run, sweep / str(i))


def test_worker_processes_log_options_that_are_swept(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    sweep, workers = tmp_path / "night", ["hydra.launcher.workers=2", "hydra.launcher.fuse=false"]
    swept = ["optim=sgd,adamw", "batch_size=16,32"]
    done = run_cli("-m", *SHORT, *swept, *workers, f"hydra.sweep.dir={sweep}", env=HOME)
    assert done.status == 0, done.err
    logged = [read_wandb(sweep / str(i)) for i in range(4)]
    given = [(r.config["sweep"]["optim"], r.config["sweep"]["batch_size"]) for r in logged]
    assert given == [("sgd", 16), ("sgd", 32), ("adamw", 16), ("adamw", 32)]
    assert {tuple(r.config["sweep"]) for r in logged} == {("optim", "batch_size")}, "epochs is the same in all"
    for i, run in enumerate(logged):
        assert run.config["about"]["optim"] == given[i][0]
        assert run.exit_code == 0


def holds_what_was_measured(run: Logged, folder: Path) -> None:
    """Check that a W&B run has the curves, the configuration and the result of this trial and of no other."""
    summary = json.loads((folder / "summary.json").read_text())
    given = dict(o.split("=", 1) for o in summary["overrides"])
    assert run.config["optim"]["lr"] == run.config["sweep"]["optim.lr"] == float(given["optim.lr"])
    rows: dict[int, dict[str, Any]] = {}
    for row in run.history:
        rows.setdefault(row["_step"], {}).update(row)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {r["split"] for r in records} == {"train", "val", "test"}
    for record in records:
        assert rows[record["step"]][f"{record['split']}/loss"] == record["loss"]
    assert run.summary["status"] == summary["status"] == "completed"
    assert run.summary["test/accuracy"] == summary["test"]["accuracy"]
    assert run.exit_code == 0


def test_a_trial_that_diverges_ends_its_own_run_only(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    sweep = tmp_path / "night"
    done = run_cli("-m", *SHORT, "optim=sgd", "optim.lr=0.1,1e30", f"hydra.sweep.dir={sweep}", env=HOME)
    logged = [read_wandb(sweep / str(i)) for i in range(2)]
    assert [r.run.run_group for r in logged] == ["night", "night"]
    assert [r.summary["status"] for r in logged] == ["completed", "diverged"], done.err
    assert [r.exit_code for r in logged] == [0, 1]
