"""A run stopped by a signal or a kill at any step resumes and equals the uninterrupted run, by the real command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome, command_environment

import mltricks
from mltricks import checkpoint
from mltricks.observers.files import read_records
from mltricks.resume import resumed_config
from mltricks.state import leaves
from mltricks.weights import load_weights

RUN = (
    *TINY,
    *("technique=[mixup,ema,sam]", "regularizer=dropout", "optim=sgd", "optim.momentum=0.9", "epochs=3"),
    *("log_every=5", "checkpoint_every_steps=7"),  # ten steps per epoch; the three intervals never coincide
)
TOTAL = 30
HELPERS = {"PYTHONPATH": str(Path(__file__).parent)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    mltricks.train(mltricks.compose(RUN), folder)
    return folder


def stopped(run_cli: Callable[..., Outcome], folder: Path, moment: str, at: int, number: int) -> int:
    """Start the run and stop it; return the exit status."""
    stopper = ["tracker=custom", "tracker._target_=stopper.Stopper", "allow_modules=[stopper]"]
    when = [f"+tracker.moment={moment}", f"+tracker.at={at}", f"+tracker.number={number}"]
    return run_cli(*RUN, f"hydra.run.dir={folder}", *stopper, *when, env=HELPERS).status


def go_on(folder: Path) -> Any:
    """Resume as ``python -m mltricks resume=FOLDER tracker=none`` does, but in this process, which is faster."""
    given = [f"resume={folder}", "tracker=none", "allow_modules=[stopper]"]
    return mltricks.train(resumed_config(mltricks.compose(given), given), folder, True, given)


def told(folder: Path) -> list[dict[str, Any]]:
    """The records without times."""
    clock = ("seconds", "samples_per_s")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_records(folder / "metrics.jsonl")]


def assert_equal_runs(one: Path, other: Path) -> None:
    """Check that records, weights, state and result are equal, bit for bit."""
    assert told(one) == told(other)
    a, b = load_weights(one)[0], load_weights(other)[0]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = (checkpoint.load(folder)["state"] for folder in (one, other))
    for part in ("params", "buffers", "opt", "own", "step"):
        pairs = zip(leaves({part: a[part]}), leaves({part: b[part]}), strict=True)
        assert all(torch.equal(x, y) for x, y in pairs), part
    results = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    for key in ("status", "steps", "epochs", "train", "val", "test", "objective"):
        assert results[0][key] == results[1][key], key


@pytest.mark.parametrize("at", [3, *random.Random(0).sample(range(8, TOTAL), 2), TOTAL])
def test_kill_9_at_any_step(at: int, run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert stopped(run_cli, folder, "step", at, signal.SIGKILL) == -signal.SIGKILL
    done = run_cli(f"resume={folder}", "tracker=none", "allow_modules=[stopper]") if at == 3 else go_on(folder)
    assert not isinstance(done, Outcome) or done.status == 0, done
    assert_equal_runs(whole, folder)


@pytest.mark.parametrize(("moment", "at"), [("step", 18), ("val", 2)], ids=["within a log window", "while validating"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_signals_save_first(
    number: int, status: int, moment: str, at: int, run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert stopped(run_cli, folder, moment, at, number) == status
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["signal"]) == ("interrupted", number)
    assert int(checkpoint.load(folder)["state"]["step"]) == summary["steps"] == {"step": 18, "val": 20}[moment]
    go_on(folder)
    assert_equal_runs(whole, folder)


def test_signal_while_the_run_is_built(run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert stopped(run_cli, folder, "setup", 1, signal.SIGTERM) == 75
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert not (folder / "checkpoints").exists()
    go_on(folder)
    assert_equal_runs(whole, folder)


def test_signal_before_the_first_step(run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert stopped(run_cli, folder, "start", 1, signal.SIGINT) == 130
    assert int(checkpoint.load(folder)["state"]["step"]) == 1
    go_on(folder)
    assert_equal_runs(whole, folder)


@pytest.mark.parametrize(("moment", "at"), [("step", TOTAL), ("test", 1)])
def test_signal_after_the_last_step_lets_the_run_end(
    moment: str, at: int, run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert stopped(run_cli, folder, moment, at, signal.SIGTERM) == 0
    assert_equal_runs(whole, folder)


def test_kill_9_from_outside_while_checkpoints_are_written(tmp_path: Path) -> None:
    folder, often = tmp_path / "run", [*RUN[:-1], "checkpoint_every_steps=1", "epochs=300"]
    command = [sys.executable, "-m", "mltricks", *often, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(command, env=command_environment(), cwd=tmp_path)
    while not (folder / "checkpoints" / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(random.Random(1).random() * 0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = checkpoint.load(folder)
    step = int(saved["state"]["step"])
    assert 1 <= step < 3000
    alone = tmp_path / "alone"  # the learning rate is constant, so a shorter run has the same steps
    mltricks.train({**saved["config"], "max_steps": step, "checkpoint_every_steps": 0}, alone)
    expected = checkpoint.load(alone)["state"]
    for part in ("params", "opt", "own"):
        pairs = zip(leaves({part: expected[part]}), leaves({part: saved["state"][part]}), strict=True)
        assert all(torch.equal(x, y) for x, y in pairs), part


def test_kill_9_during_a_write_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_text("good")
    script = (
        "import os, sys; from pathlib import Path; from mltricks.process.atomic import write_atomically\n"
        "def write(partial):\n    partial.write_text('ba'); os.kill(os.getpid(), 9)\n"
        "write_atomically(Path(sys.argv[1]), write)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=command_environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "good"
    assert os.listdir(tmp_path) != ["last.pt"], "the half-written file is beside it, under another name"


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    script = (
        "import os, signal\nfrom mltricks.process.interrupt import Interrupt\n"
        "with Interrupt() as interrupt:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    assert interrupt.signal == signal.SIGINT\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n        print('stopped')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=command_environment(), capture_output=True, text=True)
    assert done.stdout == "stopped\n", done.stderr
