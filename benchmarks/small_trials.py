"""16 tiny trials, timed from the start of the command to the last result: python benchmarks/small_trials.py

mltricks is one command with ``-m``, which composes, trains, validates every epoch, tests and writes 16 complete
folders. It is compared with a hand-written script that trains and prints, once as 16 processes, two at a time, with
one trial each, and once as one process with a loop. The script makes as many updates of the same model and writes
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import environment, race, report

PEER = Path(__file__).parent / "peers" / "small_trials.py"
ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1"}


def rates(trials: int) -> list[str]:
    return [f"{0.005 * 1.2**i:.6f}" for i in range(trials)]


def ours(shape: argparse.Namespace, *more: str) -> None:
    """Run one sweep and check that every trial has its result."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "mltricks", "-m", "model=mlp", f"model.width={shape.width}", "optim=sgd"),
            *(f"batch_size={shape.batch_size}", f"epochs={shape.epochs}", "optim.lr=" + ",".join(rates(shape.trials))),
            *(f"hydra.sweep.dir={folder}", *more),
        ]
        subprocess.run(command, check=True, env=ENVIRON, stdout=subprocess.DEVNULL)
        summaries = [json.loads(path.read_text()) for path in Path(folder).glob("*/summary.json")]
    assert [s["status"] for s in summaries] == ["completed"] * shape.trials


def peer(shape: argparse.Namespace, lrs: list[str]) -> None:
    """Run the script once, with one trial per learning rate."""
    sizes = [str(size) for size in (shape.epochs, shape.width, shape.batch_size)]
    subprocess.run([sys.executable, str(PEER), *sizes, *lrs], check=True, env=ENVIRON, stdout=subprocess.DEVNULL)


def two_at_a_time(shape: argparse.Namespace) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda lr: peer(shape, [lr]), rates(shape.trials)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    shape = parser.parse_args()
    print(environment())
    contestants = {
        "ours": lambda: ours(shape),
        "two processes at a time": lambda: two_at_a_time(shape),
        "a loop in one process": lambda: peer(shape, rates(shape.trials)),
    }
    times = race(contestants, shape.rounds)
    report(f"{shape.trials} trials of an MLP of width {shape.width}, {shape.epochs} epochs: seconds", times, ["ours"])


if __name__ == "__main__":
    main()
