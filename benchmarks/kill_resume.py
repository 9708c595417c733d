"""Kill a run with SIGKILL at random moments, resume it, and compare it with the uninterrupted run, bit for bit.

python benchmarks/kill_resume.py --trials 10; options after -- are overrides of the run, as data=mnist data.fraction=0.1
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

RUN = [
    *("technique=[mixup,ema,sam]", "augment=crop", "regularizer=dropout", "optim=sgd", "scheduler=cosine"),
    *("checkpoint_every_steps=7", "log_every=10", "plots=false", "progress=none", "epochs=40"),
]
CLOCKS = ("seconds", "samples_per_s")


def start(overrides: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "mltricks", *overrides], stderr=subprocess.PIPE)


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The metrics and the last state, without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    records = [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]
    return records, {key: value for key, value in state.items() if key != "host"}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def killed_run(folder: Path, overrides: list[str], latest_s: float, rng: random.Random) -> int:
    """Kill the run and resume it, at most three times, then let it end. Returns how often it was killed."""
    for number in range(4):
        process = start([f"resume={folder}"] if number else [*overrides, f"hydra.run.dir={folder}"])
        try:
            if number == 3:
                raise subprocess.TimeoutExpired("", 0)
            process.wait(rng.uniform(latest_s / 4, latest_s))
            break
        except subprocess.TimeoutExpired:
            if number < 3:
                process.kill()
        message = process.communicate()[1].decode()
        if number == 3:
            assert process.returncode == 0, message
        if not (folder / "config.yaml").exists():  # killed before the run began: there is nothing to resume
            return killed_run(folder, overrides, latest_s, rng)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    overrides, rng = [*RUN, *options.overrides], random.Random(options.seed)
    root = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    assert start([*overrides, f"hydra.run.dir={root / 'whole'}"]).wait() == 0
    whole, seconds = outcome(root / "whole"), time.perf_counter() - began
    exact = kills = 0
    for trial in range(options.trials):
        folder = root / str(trial)
        kills += killed_run(folder, overrides, seconds, rng)
        records, state = outcome(folder)
        exact += records == whole[0] and equal(state, whole[1])
    print(f"{exact} of {options.trials} runs equal the one left alone bit for bit, after {kills} kills")


if __name__ == "__main__":
    main()
