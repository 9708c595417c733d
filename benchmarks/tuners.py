"""One random search of learning rate and weight decay, 64 trials, with several tuners: python benchmarks/tuners.py

Each program is a whole process, from the command to its end, on the same cores: a study of mltricks (random search),
stacked and not; Optuna in one process around a hand-written loop; Ray Tune. mltricks writes a folder per trial, with
metrics, the best weights and a checkpoint, and a page; the others write their defaults. The programs run in turn.
Needs: pip install -e '.[bench]'
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
from collections.abc import Callable

from harness import PEERS, environment, process, race, report

RANGES = ("optim.lr=tag(log,interval(1e-4,1e-2))", "optim.weight_decay=tag(log,interval(1e-3,0.3))")


def ours(options: argparse.Namespace, *settings: str) -> Callable[[], None]:
    """A study of mltricks."""
    command = ["-m", "mltricks", "-m", "hydra/sweeper=study", "study.sampler=random", f"n_trials={options.trials}"]
    model = ["data=digits", "model=mlp", f"model.width={options.width}", f"epochs={options.epochs}"]
    return process(*command, *model, *RANGES, "optim=adamw", "batch_size=32", "hydra.sweep.dir=sweep", *settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="programs to leave out")
    options = parser.parse_args()
    peer = [str(options.trials), str(options.width), str(options.epochs)]
    contestants = {
        "mltricks, fuse=auto": ours(options),
        "mltricks, fuse=false": ours(options, "hydra.launcher.fuse=false"),
        "Optuna": process(str(PEERS / "optuna_loop.py"), *peer),
        "Ray Tune": process(str(PEERS / "ray_tune.py"), *peer),
    }
    contestants = {name: run for name, run in contestants.items() if name not in options.without}
    print(environment("optuna", "ray"), f"; {len(os.sched_getaffinity(0))} cores")
    times = race(contestants, options.rounds)
    names = [name for name in contestants if name.startswith("mltricks")]
    report(f"seconds for {options.trials} trials, MLP of {options.width}, {options.epochs} epochs", times, names)
    for name, seconds in times.items():
        print(f"{name:>28}: {60 * options.trials / statistics.median(seconds):.0f} trials a minute")
    for name, peer_name in itertools.product(names, set(times) - set(names)):
        ratio = statistics.median(b / a for a, b in zip(times[name], times[peer_name], strict=True))
        print(f"{name} does {ratio:.2f} times the trials a minute of {peer_name}")


if __name__ == "__main__":
    main()
