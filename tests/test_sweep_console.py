"""What a sweep prints: its jobs, the count, the time left, and the best configuration with its command."""

from __future__ import annotations

import json
import re
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
from conftest import TINY, Outcome, command_environment
from terminal import on_terminal, shown_lines

from mltricks.launch.job import Job
from mltricks.launch.progress import Progress
from mltricks.launch.tally import Tally, brief, counting, trained_share
from mltricks.launch.time_left import Running, seconds_left
from mltricks.summary import Summary
from mltricks.sweep.closing import best_lines
from mltricks.sweep.outcome import Outcome as JobOutcome

SWEEP = ["-m", *TINY, "epochs=1", "hydra.sweep.dir=sweep", "hydra.launcher.fuse=false", "hydra.launcher.workers=1"]


@pytest.mark.parametrize(
    ("ended", "running", "waiting", "workers", "left"),
    [
        ([], [], [1, 1], 2, None),  # nothing has been measured
        ([], [Running(1, 5.0)], [1], 1, None),
        ([(1, 10.0)], [], [1, 1, 1], 1, 30.0),
        ([(1, 10.0)], [Running(1, 4.0)], [1, 1], 1, 26.0),
        ([(1, 10.0), (1, 20.0)], [Running(1, 5.0), Running(1, 0.0)], [1, 1, 1], 2, 40.0),  # free at 10 and at 15
        ([], [Running(1, 6.0, 0.25)], [1], 1, 42.0),  # takes 24 s in all, then another such job
        ([(1, 10.0)], [Running(1, 30.0, 0.5)], [], 2, 30.0),  # its own progress counts, not the mean
        ([(1, 10.0)], [Running(1, 50.0)], [], 1, 0.0),  # late: it may end at any time
        ([(8, 40.0)], [Running(8, 10.0)], [4], 1, 50.0),  # stacks: 5 s a job
        ([(1, 10.0)], [], [1], 8, 10.0),  # more workers than jobs
    ],
)
def test_the_time_left(
    ended: list[tuple[int, float]], running: list[Running], waiting: list[int], workers: int, left: float | None
) -> None:
    assert seconds_left(ended, running, waiting, workers) == (None if left is None else pytest.approx(left))


def test_a_runs_progress_is_that_of_its_last_validation(tmp_path: Path) -> None:
    def share(*records: dict[str, Any], torn: str = "") -> float:
        (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n" + torn)
        return trained_share(tmp_path, 4, None if len(records) < 3 else 20)

    assert trained_share(tmp_path / "none", 4, None) == 0.0
    train, val = {"split": "train", "epoch": 2, "step": 15}, {"split": "val", "epoch": 1, "step": 10}
    assert share(train) == 0.0
    assert share(val, train, torn='{"split": "va') == 0.25
    assert share(val, train, train) == 0.5, "max_steps ends the run before its epochs"


def job(num: int, folder: Path, *overrides: str) -> Job:
    """A job without a configuration."""
    return Job(num, list(overrides), {}, folder, None)


def test_a_study_counts_over_its_launches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(total=6)
    tally.ended = [(1, 10.0)]
    scores = [0.5, None, 0.75, 0.25]
    with counting(tally):
        for first in (0, 2):
            jobs = [job(n, tmp_path / str(n), f"optim.lr=0.{n}23456789012") for n in (first, first + 1)]
            progress = Progress(jobs, [[j] for j in jobs])
            for one in jobs:
                progress.start([one])
                score = scores[one.num]
                objective = {"name": "val/accuracy", "value": score, "direction": "maximize"}
                summary = Summary("completed", objective=objective) if score else Summary("failed", error="no luck")
                one.folder.mkdir()
                summary.write(one.folder / "summary.json")
                progress.end(one, SimpleNamespace(_return_value=None))
    assert capsys.readouterr().out.splitlines() == [
        "#0  val/accuracy 0.5000  best  optim.lr=0.02346",
        "#1  failed: no luck  optim.lr=0.1235",
        "#2  val/accuracy 0.7500  best  optim.lr=0.2235",
        "#3  val/accuracy 0.2500  optim.lr=0.3235",
    ]
    assert (progress.done, progress.num_steps) == (4, 6)
    assert progress.fields()["count"] == "4/6 done"
    assert progress.fields()["others"] == "1 failed"
    assert progress.below() == ["best val/accuracy 0.7500: #2 optim.lr=0.2235"]


def outcome(
    num: int, value: float, *overrides: str, status: str = "completed", direction: str = "minimize"
) -> JobOutcome:
    """The outcome of a job with this score."""
    objective = {"name": "val/loss", "value": value, "direction": direction}
    return JobOutcome(num, list(overrides), Path(str(num)), Summary(status, objective=objective))


def test_the_best_of_a_grid_is_the_best_mean_over_seeds() -> None:
    jobs = [outcome(0, 0.1, "a=1", "seed=0"), outcome(1, 0.9, "a=1", "seed=1")]
    jobs += [outcome(2, 0.3, "technique=[mixup,ema]", "seed=0"), outcome(3, 0.4, "technique=[mixup,ema]", "seed=1")]
    assert best_lines(jobs) == [
        "best val/loss 0.3500, mean of 2 seeds (jobs 2, 3):",
        "  python -m mltricks -m technique=mixup+ema seed=0,1",
    ]
    assert best_lines(jobs[1:3]) == ["best val/loss 0.3000 (job 2):", "  python -m mltricks technique=mixup+ema seed=0"]


def test_a_configuration_that_diverged_for_a_seed_is_not_the_best() -> None:
    jobs = [outcome(0, 0.1, "a=1", "seed=0"), outcome(1, float("nan"), "a=1", "seed=1", status="diverged")]
    assert best_lines([*jobs, outcome(2, 0.5, "a=2", "seed=0"), outcome(3, 0.5, "a=2", "seed=1")])[0].endswith(
        "(jobs 2, 3):"
    )
    assert best_lines(jobs)[0] == "best val/loss 0.1000 (job 0):", "unless no configuration is whole"
    assert best_lines(jobs[1:]) == []


def test_overrides_are_shown_with_four_significant_digits() -> None:
    long = [
        "a=0.0012345678901234567",
        "a=1.2345678901e-05",
        "a=0.001",
        "a=-0.123456789,12.3456789",
        "data.limit=1234567",
    ]
    assert [brief(text) for text in long] == [
        "a=0.001235",
        "a=1.235e-05",
        "a=0.001",
        "a=-0.1235,12.35",
        "data.limit=1234567",
    ]


def test_a_grid_names_its_best_configuration_again_when_it_is_finished(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    first, again = (run_cli(*SWEEP, "optim.lr=1e-9,1e-2") for _ in range(2))
    assert first.status == again.status == 0, first.err + again.err
    done, best, command, page = again.out.splitlines()
    assert done.endswith(": all 2 jobs were done before")
    assert re.fullmatch(r"best val/accuracy [\d.]+ \(job 1\):", best)
    assert shlex.split(command)[:3] == ["python", "-m", "mltricks"]
    assert "optim.lr=1e-2" in command or "optim.lr=0.01" in command
    assert page == "sweep: sweep/sweep.html"
    assert first.out.splitlines()[-3:] == [best, command, page]


def test_a_sweep_on_a_terminal_fits_it(tmp_path: Path) -> None:
    status, text = on_terminal([*SWEEP, "optim.lr=1e-3,1e-2", "hydra.sweep.dir=sweep"], tmp_path, 80)
    assert status == 0, text
    lines = shown_lines(text)
    assert max(len(line) for line in lines if not line.startswith("  python")) <= 80
    assert any(re.search(r"1/2 done .*0:\d\d left", line) for line in lines)
    assert not any("left" in line for line in lines if "0/2 done" in line), "nothing has been measured"
    assert any(line.startswith("best val/accuracy ") and "#0 optim.lr=" in line for line in lines)


def test_an_interrupted_sweep_says_how_to_continue(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mltricks", *SWEEP, "optim.lr=1e-3,1e-2", "epochs=500"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=command_environment(), text=True, **pipes) as process:  # type: ignore[call-overload]
        while not (tmp_path / "sweep" / "0" / "checkpoints" / "last.pt").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted: 0 of 2 jobs are done; type the same command again to continue" in out.splitlines()
