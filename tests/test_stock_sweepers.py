"""Hydra's own sweepers still work: ``basic`` and ``optuna``, with Hydra's launcher and with ``local``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import TINY, Outcome

from mltricks.config.options import conf_dir

LAUNCHERS = sorted({"basic", *(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("[a-z]*.yaml"))})
SHORT = (*TINY, "epochs=1", "max_steps=3", "hydra.sweep.dir=sweep")


def summaries(folder: Path) -> list[dict]:
    paths = sorted((folder / "sweep").glob("[0-9]*/summary.json"), key=lambda path: int(path.parent.name))
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize("launcher", [name for name in ("basic", "local") if name in LAUNCHERS])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_optuna_sweeper(run_cli: Callable[..., Outcome], tmp_path: Path, sampler: str, launcher: str) -> None:
    done = run_cli(
        *("-m", "hydra/sweeper=optuna", f"hydra/sweeper/sampler={sampler}", f"hydra/launcher={launcher}", *SHORT),
        *("hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2"),
        *("hydra.sweeper.sampler.seed=0", "optim.lr=tag(log,interval(1e-4,1e-1))", "technique=mixup,cutmix"),
    )
    assert done.status == 0, done.err
    runs = summaries(tmp_path)
    assert len(runs) == 3
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(run["objective"]["value"] for run in runs)
    rates = {next(o for o in run["overrides"] if o.startswith("optim.lr=")) for run in runs}
    assert len(rates) == 3
    assert f"optim.lr={best['best_params']['optim.lr']}" in rates


@pytest.mark.parametrize("launcher", [name for name in ("basic", "local") if name in LAUNCHERS])
def test_the_basic_sweeper(run_cli: Callable[..., Outcome], tmp_path: Path, launcher: str) -> None:
    done = run_cli(
        *("-m", "hydra/sweeper=basic", f"hydra/launcher={launcher}", *SHORT),
        *("technique=[mixup,ema],[cutmix]", "seed=0,1"),
    )
    assert done.status == 0, done.err
    chosen = [[o for o in run["overrides"] if o.startswith(("technique=", "seed="))] for run in summaries(tmp_path)]
    assert chosen == [[f"technique={t}", f"seed={s}"] for t in ("[mixup,ema]", "[cutmix]") for s in (0, 1)]


def test_the_documented_limits_of_the_optuna_sweeper(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    command = ("-m", "hydra/sweeper=optuna", *SHORT, "hydra.sweeper.n_trials=1", "hydra.sweeper.storage=sqlite:///s.db")
    command = (*command, "hydra.sweeper.study_name=a", "hydra.sweeper.direction=maximize")
    assert run_cli(*command, "technique=glob(*mix*)").status == 1
    assert run_cli(*command, "optim.lr=interval(0.001,0.01)").status == 0
    first = summaries(tmp_path)[0]["overrides"]
    again = run_cli(*command, "optim.lr=interval(0.001,0.01)")
    assert (again.status, "overwrite=true" in again.err) == (1, True)
    assert run_cli(*command, "optim.lr=interval(0.001,0.01)", "overwrite=true").status == 0
    runs = summaries(tmp_path)
    assert len(runs) == 1, "with overwrite=true a second command replaces the runs of the first"
    assert runs[0]["overrides"] != first


def test_a_trial_that_diverges_ends_a_sweep_of_the_optuna_sweeper(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    command = ("-m", "hydra/sweeper=optuna", *SHORT, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "optim=sgd")
    assert run_cli(*command, "optim.lr=interval(1e12,1e13)").status == 1
    assert [run["status"] for run in summaries(tmp_path)] == ["diverged"]


def test_glob_matches_options_and_not_their_shared_parts(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("-m", *SHORT, "optim=glob(*,exclude=[t*,muon,l*,custom,n*,r*,adag*,sch*,*_decoupled])")
    assert done.status == 0, done.err
    chosen = [next(o for o in run["overrides"] if o.startswith("optim=")) for run in summaries(tmp_path)]
    assert chosen == ["optim=adam", "optim=adamw", "optim=sgd"]


def test_the_basic_sweeper_has_no_intervals(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("-m", "hydra/sweeper=basic", *SHORT, "optim.lr=interval(0.001,0.01)")
    assert done.status == 1
    assert "does not support sweep type" in done.err
