"""The cost of a sweep per trial: jobs that do nothing, with mltricks' sweeper and launcher and with Hydra's own.

python benchmarks/noop_trials.py
Each measurement is a new process that sweeps over N values of one float. The cost per trial is the slope between two
values of N, so it does not include the start of the process. The page that mltricks writes after a sweep is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import environment, race, report

APP = Path(__file__).parent / "peers" / "noop_app.py"
OURS = ("hydra/sweeper=grid", "hydra/launcher=local")
HYDRAS = ("hydra/sweeper=basic", "hydra/launcher=basic")


def sweep(root: str, number: int, *choice: str) -> Callable[[], None]:
    """Run a sweep of ``number`` trials in its own process, in a new folder below ``root``.

    No folder is deleted between sweeps: ext4 is slow to allocate beside inodes that were freed in the last seconds.
    """
    values = ",".join(str(0.001 * (i + 1)) for i in range(number))
    command = [sys.executable, str(APP), "-m", f"optim.lr={values}", "~hydra.callbacks.sweep_page", *choice]

    def run() -> None:
        folder = tempfile.mkdtemp(dir=root)
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made = len(list(Path(folder).glob("multirun/*/*/*/.hydra/config.yaml")))
        assert made == number, f"{made} jobs of {number} left their record"

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 200, 300])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(environment("hydra-core"))
    few, *_, many = options.trials
    pairs = {"mltricks": OURS, "basic + basic": HYDRAS}
    with tempfile.TemporaryDirectory() as root:
        contestants = {
            f"{name}, {n}": sweep(root, n, *choice) for name, choice in pairs.items() for n in options.trials
        }
        times = race(contestants, options.rounds)
    report("seconds of a whole sweep", times, [f"mltricks, {n}" for n in options.trials])
    slopes = {}
    for name in pairs:
        rounds = zip(times[f"{name}, {many}"], times[f"{name}, {few}"], strict=True)
        slopes[name] = [(a - b) / (many - few) * 1e3 for a, b in rounds]
        print(f"{name}: {statistics.median(slopes[name]):.2f} ms a trial, the slope from {few} to {many}")
        for n in options.trials:
            print(f"    {n} trials: {statistics.median(times[f'{name}, {n}']) / n * 1e3:.2f} ms a trial with the start")
    ratios = [theirs / ours for theirs, ours in zip(slopes["basic + basic"], slopes["mltricks"], strict=True)]
    print(
        f"a trial by Hydra's own / by ours: median {statistics.median(ratios):.1f} "
        f"({min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
