"""A finished run is not overwritten; it can be lengthened if no step so far depended on its length."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome, command_environment

import mltricks
from mltricks.checkpoint import LAST, load
from mltricks.objectives.classify import Classify
from mltricks.observers.files import read_records
from mltricks.process.atomic import alone_in
from mltricks.resume import resumed_config
from mltricks.technique import Ctx, Technique


def run(folder: Path, *overrides: str) -> Any:
    return mltricks.train(mltricks.compose([*TINY, *overrides]), folder)


def lengthen(folder: Path, *overrides: str) -> Any:
    cfg = resumed_config(mltricks.compose([f"resume={folder}", *overrides]), overrides)
    return mltricks.train(cfg, folder, resume=True, overrides=overrides)


@pytest.mark.parametrize("length", ["epochs", "max_steps"])
def test_a_lengthened_run_equals_one_that_was_long_from_the_start(tmp_path: Path, length: str) -> None:
    short, long = {"epochs": (1, 3), "max_steps": (10, 25)}[length]
    shared = ["technique=[mixup,ema]", *(["epochs=3"] if length == "max_steps" else [])]
    run(tmp_path / "grown", *shared, f"{length}={short}")
    grown = lengthen(tmp_path / "grown", f"{length}={long}")
    whole = run(tmp_path / "whole", *shared, f"{length}={long}")
    assert (grown.steps, grown.status, grown.val, grown.test) == (whole.steps, whole.status, whole.val, whole.test)
    states = [load(tmp_path / name / LAST)["state"] for name in ("grown", "whole")]
    assert all(torch.equal(states[0]["params"][name], p) for name, p in states[1]["params"].items())
    records = [read_records(tmp_path / name / "metrics.jsonl") for name in ("grown", "whole")]
    losses = [{r["step"]: r["loss"] for r in known if r["split"] == "val"} for known in records]
    assert losses[0] == losses[1]
    assert lengthen(tmp_path / "grown").steps == grown.steps, "the new length is saved"


@pytest.mark.parametrize(
    ("shared", "longer", "said"),
    [
        (["scheduler=cosine"], "epochs=2", "optim.lr is scheduled"),
        (["optim.weight_decay={schedule: linear, start: 0.1, end: 0}"], "epochs=2", "optim.weight_decay is scheduled"),
        (["epochs=2"], "epochs=1", "A run can be made longer, not shorter"),
        (["early_stopping.patience=1", "epochs=9", "optim.lr=1e-9"], "epochs=20", "stopped early and would do so"),
        ([], "seed=1", "the steps so far would have been different"),
    ],
)
def test_a_run_that_cannot_be_lengthened_is_refused_with_the_reason(
    tmp_path: Path, shared: list[str], longer: str, said: str
) -> None:
    run(tmp_path / "run", "epochs=1", *shared)
    before = (tmp_path / "run" / LAST).read_bytes()
    with pytest.raises(ValueError, match=said):
        lengthen(tmp_path / "run", longer)
    assert (tmp_path / "run" / LAST).read_bytes() == before


def fade(value: Any, ctx: Ctx) -> Any:
    return value * (1 - 0.1 * ctx.progress)


@dataclass(frozen=True)
class Base(Technique):
    def loss(self, inner: Any) -> Any:
        def faded(params: Any, batch: Any, ctx: Ctx) -> Any:
            value, aux = inner(params, batch, ctx)
            return fade(value, ctx), aux

        return faded


@dataclass(frozen=True)
class Fading(Base):
    """Inherits a verb whose helper function uses the progress."""


@dataclass(frozen=True)
class FadingObjective(Classify):
    def __call__(self, params: Any, batch: Any, ctx: Ctx) -> Any:
        value, aux = super().__call__(params, batch, ctx)
        return fade(value, ctx), aux


@pytest.mark.parametrize(
    "own", [f"+technique.fading._target_={__name__}.Fading", f"objective._target_={__name__}.FadingObjective"]
)
def test_use_of_the_progress_is_detected(tmp_path: Path, own: str) -> None:
    allowed = f"allow_modules=[{__name__}]"
    run(tmp_path / "run", "epochs=1", own, allowed)
    with pytest.raises(ValueError, match="a technique or the objective depends on the progress"):
        lengthen(tmp_path / "run", "epochs=2", allowed)


def test_a_length_without_effect_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", "epochs=2", "max_steps=13")
    with pytest.raises(ValueError, match="epochs=5 has no effect: max_steps=13 ends the run"):
        lengthen(tmp_path / "run", "epochs=5")
    with pytest.raises(ValueError, match="longer, not shorter"):
        mltricks.train(mltricks.compose([*TINY, "epochs=1", "max_steps=13"]), tmp_path / "run", resume=True)


def kill_at(step: int, what: str) -> str:
    """Code that trains and kills its process after a step."""
    return (
        "import os, mltricks\nfrom mltricks.observers.files import Files\nfrom mltricks.resume import resumed_config\n"
        f"Files.step = lambda self, step: os.kill(os.getpid(), 9) if step == {step} else None\n{what}\n"
    )


def killed(folder: Path, step: int, what: str) -> None:
    done = subprocess.run([sys.executable, "-c", kill_at(step, what)], cwd=folder, env=command_environment())
    assert done.returncode == -9


def test_a_stopped_run_is_not_overwritten_by_its_command(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    killed(tmp_path, 15, f"mltricks.train(mltricks.compose({[*TINY, 'epochs=3']!r}), 'run')")
    before = (tmp_path / "run" / LAST).read_bytes()
    done = run_cli(*TINY, "epochs=3", "hydra.run.dir=run")
    assert (done.status, "resume=run" in done.err) == (1, True)
    assert (tmp_path / "run" / LAST).read_bytes() == before
    assert lengthen(tmp_path / "run").status == "completed"


def test_a_run_killed_while_it_is_lengthened_is_not_finished(tmp_path: Path) -> None:
    run(tmp_path / "run", "epochs=1")
    again = (
        "mltricks.train(resumed_config(mltricks.compose(['resume=run', 'epochs=3']), ['epochs=3']), 'run', resume=True)"
    )
    killed(tmp_path, 15, again)
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "interrupted"
    assert lengthen(tmp_path / "run").steps == 30


def test_a_refused_overwrite_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "run", "epochs=1")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="unlabelled"):
        run(tmp_path / "run", "overwrite=true", "technique=fixmatch")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_only_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        code = f"import mltricks\nmltricks.train(mltricks.compose({TINY!r}), 'run')"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=command_environment(), capture_output=True
        )
        typed = [sys.executable, "-m", "mltricks", *TINY, "hydra.run.dir=run", "overwrite=true"]
        refused = subprocess.run(typed, cwd=tmp_path, env=command_environment(), capture_output=True)
    assert b"another process trains in run" in done.stderr
    assert b"another process trains in run" in refused.stderr
    assert list((tmp_path / "run").iterdir()) == []


def test_a_finished_run_is_not_overwritten(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    run(tmp_path / "run", "epochs=1")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    done = run_cli(*TINY, "epochs=1", "seed=3", "hydra.run.dir=run")
    assert (done.status, "overwrite=true" in done.err, "resume=run" in done.err) == (1, True, True)
    with pytest.raises(ValueError, match="overwrite=true"):
        run(tmp_path / "run", "seed=3")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "run/evaluation.json").write_text("{}")
    assert run(tmp_path / "run", "epochs=1", "seed=3", "overwrite=true").status == "completed"
    assert not (tmp_path / "run/evaluation.json").exists()
    assert load(tmp_path / "run" / LAST)["config"]["seed"] == 3


def test_a_run_killed_before_its_report_writes_it_on_resume(tmp_path: Path) -> None:
    """The summary, which marks the run as finished, is written after the report."""
    code = (
        "import os, mltricks\nfrom mltricks.observers.report import Report\n"
        "Report.finish = lambda self, summary: os.kill(os.getpid(), 9)\n"
        f"mltricks.train(mltricks.compose({[*TINY, 'epochs=1', 'plots=true']!r}), 'run')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=command_environment())
    assert done.returncode == -9
    assert not (tmp_path / "run/report.html").exists()
    lengthen(tmp_path / "run")
    assert (tmp_path / "run/report.html").exists()
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "completed"


@pytest.mark.parametrize("content", ["", "seed: 0\n"])
def test_resuming_a_run_that_had_not_begun_is_refused_with_the_reason(tmp_path: Path, content: str) -> None:
    (tmp_path / "run/.hydra").mkdir(parents=True)
    (tmp_path / "run/.hydra/config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"had not begun when it was stopped.*Type its command again"):
        resumed_config(mltricks.compose([f"resume={tmp_path / 'run'}"]), [])


@pytest.mark.parametrize("typed", [["optim.lr=-1"], ["job=predict", "checkpoint=nowhere"], ["-m", "optim.lr=-1,2"]])
def test_a_refused_command_leaves_no_folder(run_cli: Callable[..., Outcome], tmp_path: Path, typed: list[str]) -> None:
    assert run_cli(*typed).status == 1
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_run(tmp_path: Path) -> None:
    run(tmp_path / "first", "epochs=1")
    saved = load(tmp_path / "first" / LAST)["state"]["params"]
    first = next(iter(saved))
    again = [f"init.checkpoint={tmp_path / 'first'}", "init=checkpoint", "epochs=1", "optim.lr=1e-12"]
    summary = run(tmp_path / "second", *again)
    assert summary.messages == [f"init: {len(saved)} tensors from {tmp_path / 'first'}; new: none; unused: none"]
    taken = load(tmp_path / "second" / LAST)["state"]["params"]
    assert all(torch.allclose(taken[name], p, atol=1e-6) for name, p in saved.items())
    run(tmp_path / "third", *again, f"init.exclude=['{first}']")
    parts = load(tmp_path / "third" / LAST)["state"]["params"]
    assert not torch.allclose(parts[first], saved[first], atol=1e-3)
    with pytest.raises(ValueError, match=r"typo\.\* matches no tensor"):
        run(tmp_path / "fourth", *again, "init.exclude=['typo.*']")
    for wrong, said in (
        ("model.width=6", r"features.0.bias has shape .* init.exclude"),
        ("model=mlp", "has no name of|has shape"),
    ):
        with pytest.raises(ValueError, match=said):
            run(tmp_path / "fourth", *again, wrong)
    shutil.rmtree(tmp_path / "first")
    longer = lengthen(tmp_path / "second", "epochs=2")
    assert longer.status == "completed", "the other run is not read again"
