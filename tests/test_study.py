"""The sweeper ``study``: its budget, the results reported for its trials, its refusals and its files."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from conftest import TINY, Outcome
from test_space import place_of

import mltricks
from mltricks.config.options import conf_dir
from mltricks.launch.job import Job
from mltricks.launch.progress import Progress
from mltricks.launch.tally import showing
from mltricks.study.measures import Goals, check_jobs_have_one, check_measured, read_goals
from mltricks.study.settings import batch_size, check_settings
from mltricks.study.sweep import Study, TrialRunner, check_searched
from mltricks.study.verdict import verdict_of
from mltricks.summary import Summary, read_summary
from mltricks.sweep.outcome import JobsFailed
from mltricks.sweep.space import read_space

Run = Callable[..., Outcome]
STUDY = ("-m", "hydra/sweeper=study", *TINY)
LOG = "optim.lr=tag(log,interval(1e-4,1e-1))"
ACCURACY = Goals(("val/accuracy",), ("maximize",), "val/accuracy")


def trials_of(folder: Path, name: str) -> list[Any]:
    """The trials of a study, read from its storage after the command has ended."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    try:
        return optuna.load_study(study_name=name, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def settings(**changes: Any) -> dict[str, Any]:
    """The sweeper's settings from its YAML file, with changes."""
    content = yaml.safe_load((conf_dir() / "hydra" / "sweeper" / "study.yaml").read_text())
    return {**{key: value for key, value in content.items() if key != "_target_"}, **changes}


def test_the_budget_belongs_to_the_study_and_a_changed_configuration_is_refused(run_cli: Run, tmp_path: Path) -> None:
    others = (*STUDY, "study.sampler=random", "study_name=b", "epochs=1")
    command = (*others, LOG)
    done = run_cli(*command, "n_trials=3")
    assert done.status == 0, done.err
    folder = tmp_path / "multirun" / "b"
    first = {n: (folder / str(n) / "summary.json").stat().st_mtime_ns for n in range(3)}

    more = run_cli(*command, "n_trials=5")
    assert more.status == 0, more.err
    assert "3 of 5 trials are done" in more.out
    assert {n: (folder / str(n) / "summary.json").stat().st_mtime_ns for n in range(3)} == first
    trials = trials_of(folder, "b")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    assert (
        len({trial.params["optim.lr"] for trial in trials}) == 5
    )  # the second command used another seed of the searcher
    for trial in trials:
        summary = read_summary(folder / str(trial.number) / "summary.json")
        assert trial.value == summary.objective["value"]
        assert f"optim.lr={trial.params['optim.lr']!r}" in summary.overrides

    best = max(trials, key=lambda trial: trial.value)
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results == {"name": "optuna", "best_params": best.params, "best_value": best.value}
    pasted = next(line.strip() for line in more.out.splitlines() if line.strip().startswith("python -m mltricks "))
    assert f"optim.lr={best.params['optim.lr']!r}" in shlex.split(pasted)
    assert sorted(path.name for path in folder.glob("study.db*")) == ["study.db", "study.db.lock"]

    before = (folder / "sweep.json").read_text(), (folder / "multirun.yaml").read_text()
    changes = ("batch_size=16", "optim.lr=0.1,0.2", "replicates=2", "direction=minimize")
    refused = run_cli(*others, "n_trials=9", *changes)
    assert refused.status == 1
    for shown in (
        "batch_size: 32 in the study, 16 now",
        "optim.lr: log interval(0.0001,0.1) in the study, 0.1,0.2 now",
        "replicates: 1 in the study, 2 now",
        "objectives val/accuracy: maximize in the study, minimize now",
        "Type its own command to continue it, or study_name=ANOTHER",
    ):
        assert shown in refused.err
    assert ((folder / "sweep.json").read_text(), (folder / "multirun.yaml").read_text()) == before


def test_a_stack_is_halved_exactly(run_cli: Run, tmp_path: Path) -> None:
    rule = ("pruner=asha", "asha.eta=3", "hydra.launcher.fuse=true")
    done = run_cli(*STUDY, *rule, "study.sampler=random", "study_name=h", LOG, "n_trials=9", "epochs=4")
    assert done.status == 0, done.err
    trials = trials_of(tmp_path / "multirun" / "h", "h")
    reached = Counter(max(trial.intermediate_values) for trial in trials)
    assert reached == {1: 6, 3: 3}
    assert Counter(trial.state.name for trial in trials) == {"PRUNED": 8, "COMPLETE": 1}
    summaries = [read_summary(tmp_path / "multirun" / "h" / str(n) / "summary.json") for n in range(9)]
    assert Counter((s.status, s.epochs) for s in summaries) == {
        ("pruned", 1): 6,
        ("pruned", 3): 2,
        ("completed", 4): 1,
    }
    assert all(bool(s.test) == (s.status == "completed") for s in summaries)


def test_diverged_trials_are_reported_as_pruned_and_failed_ones_as_failed(run_cli: Run, tmp_path: Path) -> None:
    command = (*STUDY, "study.sampler=grid", "study_name=g", "optim=sgd", "epochs=1")
    done = run_cli(*command, "optim.lr=0.01,1e30", "seed=0,1")
    assert done.status == 0, done.err
    trials = trials_of(tmp_path / "multirun" / "g", "g")
    assert [(trial.params["optim.lr"], trial.params["seed"]) for trial in trials] == [
        (0.01, 0),
        (0.01, 1),
        (1e30, 0),
        (1e30, 1),
    ]
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]

    nowhere = ("data=mnist", "data.root=nowhere", "data.download=false", "data.limit=null")
    stopped = run_cli(
        *command, "study_name=f", LOG, *nowhere, "study.sampler=tpe", "n_trials=6", "n_jobs=1", "max_failures=2"
    )
    assert stopped.status == 1
    assert "2 of 2 jobs did not complete" in stopped.err
    folder = tmp_path / "multirun" / "f"
    assert [trial.state.name for trial in trials_of(folder, "f")] == ["FAIL", "FAIL"]
    assert json.loads((folder / "sweep.json").read_text())["status"] == "running"
    assert yaml.safe_load((folder / "optimization_results.yaml").read_text())["best_value"] is None


def test_several_objectives_and_a_limit_of_time(run_cli: Run, tmp_path: Path) -> None:
    command = (*STUDY, "study.sampler=nsgaii", "study_name=o", "optim=adamw,sgd", "tune=[optim.lr]", "epochs=1")
    done = run_cli(*command, "objectives=[val/accuracy,seconds]", "timeout=0.1", "n_jobs=3")
    assert done.status == 0, done.err
    folder = tmp_path / "multirun" / "o"
    trials = trials_of(folder, "o")
    assert len(trials) == 3  # one batch, which runs to its end
    for trial in trials:
        summary = read_summary(folder / str(trial.number) / "summary.json")
        assert trial.values == [summary.val["accuracy"], summary.seconds]
    solutions = yaml.safe_load((folder / "optimization_results.yaml").read_text())["solutions"]
    for solution in solutions:
        accuracy, seconds = solution["values"]
        assert not any(t.values[0] > accuracy and t.values[1] < seconds for t in trials)
        assert set(solution["params"]) == {"optim", "optim.lr"}
    assert json.loads((folder / "sweep.json").read_text())["status"] == "running"


@pytest.mark.parametrize(
    ("summary", "state"),
    [
        (Summary("completed", objective={"value": 0.5}), "COMPLETE"),
        (Summary("stopped_early", objective={"value": 0.5}), "COMPLETE"),
        (Summary("completed", objective={"value": None}), "PRUNED"),
        (Summary("completed", objective={"value": float("nan")}), "PRUNED"),
        (Summary("pruned", objective={"value": 0.5}), "PRUNED"),
        (Summary("diverged"), "PRUNED"),
        (Summary("failed", error="CUDA out of memory. Tried to allocate 20 GiB", out_of_memory=True), "PRUNED"),
        (Summary("failed", error="no such file"), "FAIL"),
        (Summary("interrupted"), "INTERRUPTED"),
    ],
)
def test_the_result_reported_for_a_trial(summary: Summary, state: str) -> None:
    assert verdict_of(summary, ACCURACY).state == state


def test_objectives_have_their_usual_direction() -> None:
    cfgs = [config()]
    assert read_goals(settings(), cfgs) == ACCURACY
    three = read_goals(settings(objectives=["val/f1", "train/loss", "seconds"]), cfgs)
    assert three.directions == ("maximize", "minimize", "minimize")
    assert read_goals(settings(direction="minimize"), cfgs).directions == ("minimize",)
    assert read_goals(settings(), [config("objective_metric=val/loss")]).names == ("val/loss",)
    for change, message in (
        ({"objectives": ["test/accuracy"]}, "test/accuracy is a test metric"),
        ({"objectives": ["accuracy"]}, "accuracy is not a measure of a run. Type val/METRIC"),
        ({"objectives": ["val/loss", "val/loss"]}, "name each measure once"),
        ({"direction": ["maximize", "minimize"]}, "one of them for each objective"),
    ):
        with pytest.raises(ValueError, match=message):
            read_goals(settings(**change), cfgs)
    with pytest.raises(ValueError, match="the trials have different scores: val/accuracy, val/loss"):
        read_goals(settings(), [config(), config("objective_metric=val/loss")])
    with pytest.raises(ValueError, match=r"val/accurcy is not measured\. Measured: val/accuracy"):
        read_goals(settings(objectives=["val/accurcy"]), cfgs).values(Summary("completed", val={"accuracy": 1.0}))


def config(*overrides: str) -> dict[str, Any]:
    """A configuration as nested dicts."""
    from mltricks.config.compose import plain

    return plain(mltricks.compose(overrides))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "A study needs an end: type n_trials=20, or timeout=3600"),
        ({"n_trials": 0}, "n_trials=0 must be an integer >= 1. Type n_trials=1"),
        ({"n_trials": 2.5}, "must be an integer >= 1"),
        ({"n_trials": 5, "n_jobs": 0}, "n_jobs=0 must be an integer >= 1"),
        ({"n_trials": 5, "timeout": -1}, "timeout=-1 must be a number > 0"),
        ({"n_trials": 5, "replicates_level": 95}, "replicates_level=95 must satisfy 0 < level < 1"),
        (
            {"n_trials": 5, "storage": "postgresql://h/n"},
            "can hold many studies, so it needs a name: type study_name=NAME too",
        ),
        ({"n_trials": 5, "storage": "a.db", "study_name": "a"}, "Type storage=sqlite:///a.db"),
        ({"n_trials": 5, "storage": "postgresql://me:secret@h/n", "study_name": "a"}, "storage contains a password"),
        ({"sampler": "tpee"}, r"sampler=tpee is not a sampler. Did you mean .?tpe"),
        ({"n_trials": 5, "study_name": "../a"}, "study_name=../a must be a folder name"),
        ({"n_trials": 5, "resume_running": "yes"}, "type dead or all"),
        ({"n_trials": 5, "pruner": "halve"}, "there is no such rule"),
    ],
)
def test_wrong_settings_are_refused(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(settings(**change))


def test_impossible_combinations_are_refused_before_a_folder_exists(run_cli: Run, tmp_path: Path) -> None:
    refused = run_cli(
        *STUDY, LOG, "n_trials=3", "pruner=asha", "objectives=[val/accuracy,seconds]", "study.sampler=random"
    )
    assert refused.status == 1
    assert "pruner=asha judges runs by val/accuracy" in refused.err
    refused = run_cli(*STUDY, LOG, "n_trials=3", "seed=0,1", "replicates=2")
    assert "seed is swept, and replicates set the seed too" in refused.err
    for command, message in (
        ((LOG, "objectives=[val/acuracy]"), "Did you mean val/accuracy?"),
        ((LOG, "study.sampler=tpee"), "Did you mean tpe?"),
    ):
        refused = run_cli(*STUDY, "n_trials=3", *command)
        assert refused.status == 1
        assert message in refused.err
    assert not (tmp_path / "multirun").exists()


def test_only_metrics_that_are_measured_are_accepted() -> None:
    for names, fits in ((("val/f1", "train/accuracy", "seconds"), True), (("val/loss", "train/los"), False)):
        goals = Goals(names, ("maximize",) * len(names), "val/accuracy")
        with nullcontext() if fits else pytest.raises(ValueError, match=r"train/los is not.*Did you mean train/loss"):
            check_measured(goals, config(*TINY))


def test_a_study_needs_an_objective_and_something_to_search() -> None:
    with pytest.raises(ValueError, match="job=evaluate has no objective"):
        check_jobs_have_one([config(), config("job=evaluate", "checkpoint=a")])
    with pytest.raises(ValueError, match="Nothing is searched"):
        check_searched(settings(), read_space(["optim=sgd"], place_of(), []))
    with pytest.raises(ValueError, match="a value appears twice"):
        read_space(["optim.lr=0.1,0.10"], place_of(), [])


def test_trials_are_counted_after_those_of_dead_processes_are_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    done: list[int] = []
    monkeypatch.setattr("mltricks.study.sweep.exclusive", lambda storage, name: nullcontext())
    study = object.__new__(Study)
    study.settings, study.storage, study.name = settings(), None, "a"
    study.space = SimpleNamespace(notes=list)  # type: ignore[assignment]
    study.runner = SimpleNamespace(folder=tmp_path)  # type: ignore[assignment]
    queue = SimpleNamespace(redo_lost=lambda: done.extend([0, 1, 2]), num_finished=lambda: len(done), budget=8)
    study.queue = queue  # type: ignore[assignment]
    study.greet()
    assert "3 of 8 trials are done" in capsys.readouterr().out


def test_a_study_without_a_completed_trial_fails(tmp_path: Path) -> None:
    trials = object.__new__(TrialRunner)
    trials.folder, trials.outcomes = tmp_path, {}
    trials.check_outcomes()
    trials.fruitless = True
    with pytest.raises(JobsFailed, match="no trial was completed"):
        trials.check_outcomes()


def test_a_line_shows_every_searched_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    jobs = [Job(n, ["optim=sgd", f"optim.lr={n}", "epochs=1"], {}, tmp_path, None) for n in range(2)]
    done = SimpleNamespace(_return_value=None)
    Progress(jobs).end(jobs[0], done)
    with showing(["optim", "optim.lr"]):
        Progress(jobs).end(jobs[0], done)
    assert capsys.readouterr().out.splitlines() == ["#0  done  optim.lr=0", "#0  done  optim=sgd  optim.lr=0"]


def test_the_number_of_trials_per_batch() -> None:
    class Five:
        def domains(self) -> dict[str, None]:
            return dict.fromkeys("abcde")

    sizes = {s: batch_size(settings(sampler=s), Five()) for s in ("random", "tpe", "gp", "cmaes", "nsgaii")}
    assert sizes == {"random": 256, "tpe": 8, "gp": 4, "cmaes": 8, "nsgaii": 50}
    assert batch_size(settings(sampler="random", timeout=60), Five()) == 16
    assert batch_size(settings(n_jobs=3), Five()) == 3


def test_every_setting_of_the_sweeper_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "study.md").read_text()
    assert [key for key in settings() if f"`{key}" not in text] == []
