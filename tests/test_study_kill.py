"""Studies that are killed, interrupted or shared lose no finished trial, repeat none, and keep an exact budget."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, command_environment
from test_study import LOG, trials_of

from mltricks.summary import read_summary

COMMAND = ("-m", "hydra/sweeper=study", "study.sampler=random", LOG, *TINY)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*arguments)`` starts the command in its own process group, which is killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mltricks", *COMMAND, *arguments]
        environment = command_environment(PYTHONUNBUFFERED="1")
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def stop_after(process: subprocess.Popen[str], trials: int, number: int) -> None:
    """Send a signal once ``trials`` trials have ended, or when the command ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        trials -= line.startswith("#")
        if trials <= 0:
            break
    os.killpg(process.pid, number)
    process.communicate()


def finished(folder: Path) -> dict[str, tuple[int, str]]:
    """The results of completed trials, with the time at which each was written."""
    found = {path.parent.name: path for path in folder.glob("[0-9]*/summary.json") if path.parent.name.isdigit()}
    return {
        name: (path.stat().st_mtime_ns, path.read_text())
        for name, path in found.items()
        if read_summary(path).status == "completed"
    }


def counted(trials: list[Any]) -> list[Any]:
    return [trial for trial in trials if "abandoned" not in trial.user_attrs]


@pytest.mark.slow
def test_killed_again_and_again(start: Start, tmp_path: Path) -> None:
    folder, draw = tmp_path / "multirun" / "k", random.Random(0)
    arguments = ("study_name=k", "n_trials=12", "n_jobs=6", "epochs=3")
    kept: dict[str, tuple[int, str]] = {}
    for _ in range(3):
        stop_after(start(*arguments), draw.randint(1, 3), signal.SIGKILL)
        now = finished(folder)
        assert kept.items() <= now.items()
        kept = now
    last = start(*arguments)
    out, _ = last.communicate(timeout=120)
    assert last.returncode == 0, out
    now = finished(folder)
    assert kept.items() <= now.items()
    trials = trials_of(folder, "k")
    assert [trial.state.name for trial in counted(trials)] == ["COMPLETE"] * 12
    for trial in counted(trials):
        assert trial.value == read_summary(folder / str(trial.number) / "summary.json").objective["value"]
    for trial in trials:  # interrupted trials were run again with the same parameters
        if "retry_of" in trial.user_attrs:
            assert trial.params == trials[trial.user_attrs["retry_of"]].params
    redone = {trial.user_attrs.get("retry_of") for trial in trials}
    lost = {trial.number for trial in trials if "abandoned" in trial.user_attrs and trial.params}
    assert lost <= redone  # a trial that was killed before it had parameters is not run again


def test_ctrl_c_queues_trials_without_a_result_again(start: Start, tmp_path: Path) -> None:
    folder, arguments = tmp_path / "multirun" / "c", ("study_name=c", "n_trials=4", "epochs=200")
    process = start(*arguments, "early_stopping.patience=300", "eval_every_epochs=10", "study.seed=3")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("study: 4 trials"):
            break
    while not (folder / "0" / "metrics.jsonl").exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    trials = trials_of(folder, "c")
    assert not [trial for trial in trials if trial.state.name == "RUNNING"]
    queued = [trial for trial in trials if trial.state.name == "WAITING"]
    assert len(queued) + len(finished(folder)) == 4


def test_four_processes_share_one_budget(start: Start, tmp_path: Path) -> None:
    processes = [start("study_name=f", "n_trials=13", "n_jobs=2", "epochs=1") for _ in range(4)]
    outs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outs
    trials = trials_of(tmp_path / "multirun" / "f", "f")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 13
    assert len({trial.params["optim.lr"] for trial in trials}) == 13
    launched = [line.split()[0] for out in outs for line in out.splitlines() if line.startswith("#")]
    assert sorted(launched) == sorted(f"#{n}" for n in range(13))
