"""A sweep of a small CNN in two worker processes, timed from the start of the command to the last result.

python benchmarks/two_workers.py; with real images: python benchmarks/two_workers.py data=mnist data.fraction=0.05

It is compared with two programs that train the same configurations with the same code: a default ``multiprocessing``
pool of two processes, started by spawn, each with torch's default number of threads; and one process with two threads,
one trial after another.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from harness import environment, race, report

RUN = ["model=convnet", "optim=sgd", "plots=false", "progress=none"]
ENVIRON = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}


def train(overrides: list[str], seed: int, folder: str) -> None:
    import mltricks

    mltricks.train(mltricks.compose([*RUN, *overrides, f"seed={seed}"]), Path(folder) / str(seed))


def pool(folder: str, trials: int, overrides: list[str]) -> None:
    """A default pool of two processes."""
    with multiprocessing.get_context("spawn").Pool(2) as workers:
        workers.starmap(train, [(overrides, seed, folder) for seed in range(trials)], chunksize=1)


def one(folder: str, trials: int, overrides: list[str]) -> None:
    """One process with two threads."""
    torch.set_num_threads(2)
    for seed in range(trials):
        train(overrides, seed, folder)


PEERS = {"pool": pool, "one": one}


def contest(name: str, trials: int, overrides: list[str], losses: dict[str, list[float]]) -> None:
    """Run a program in its own process, and keep the training losses of its trials."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = ",".join(map(str, range(trials)))
        sweep = [f"seed={seeds}", f"hydra.sweep.dir={folder}", "hydra.launcher.fuse=false", "hydra.launcher.workers=2"]
        command = [sys.executable, "-m", "mltricks", "-m", *RUN, *overrides, *sweep]
        if name in PEERS:
            command = [
                sys.executable,
                __file__,
                "--peer",
                name,
                "--folder",
                folder,
                "--trials",
                str(trials),
                *overrides,
            ]
        subprocess.run(command, check=True, env=ENVIRON, stdout=subprocess.DEVNULL)
        paths = [Path(folder) / str(seed) / "summary.json" for seed in range(trials)]
        losses[name] = [json.loads(path.read_text())["train"]["loss"] for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--peer", choices=PEERS, help="run only this program")
    parser.add_argument("--folder")
    options, overrides = parser.parse_known_args()
    if options.peer is not None:
        PEERS[options.peer](options.folder, options.trials, overrides)
        return
    print(environment(), "in this process;", len(os.sched_getaffinity(0)), "cores")
    losses: dict[str, list[float]] = {}
    titles = {"ours": "two workers", "pool": "default spawn pool", "one": "one process, two threads"}
    contestants = {
        title: lambda name=name: contest(name, options.trials, overrides, losses) for name, title in titles.items()
    }
    times = race(contestants, options.rounds)
    report(
        f"{options.trials} trials of a small CNN, {' '.join(overrides) or 'digits'}: seconds", times, ["two workers"]
    )
    apart = max(abs(a - b) for a, b in zip(losses["ours"], losses["pool"], strict=True))
    print(f"largest difference of a trial's last training loss between ours and the pool: {apart:.2g}")


if __name__ == "__main__":
    main()
