"""What is done once, before the first step, on MNIST: python benchmarks/before_training.py [--data data] [--rounds 5]

Seconds on one thread: the sums from which the mean and deviation of any split follow (kept beside the data afterwards),
and what ``init=lsuv`` and ``init=whitening`` add to the building of a run, in turn with ``init=default``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from harness import environment, race

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.data.base import pixel_statistics, pixel_sums

INITS = {"init=lsuv": "model=convnet", "init=whitening": "model=airbench"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data", help="folder of the data sets")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randint(0, 256, (60_000, 28, 28, 1), dtype=torch.uint8)  # of MNIST's shape: the values change no time
    seconds = race({"": lambda: pixel_statistics(pixel_sums(x), 28 * 28)}, options.rounds)[""]
    print(f"{'statistics':>28}: {said(seconds)}")
    for init, model in INITS.items():
        times = race(
            {name: builds("data=mnist", f"data.root={options.data}", model, name) for name in ("init=default", init)},
            options.rounds,
        )
        print(f"{init:>28}: {said([b - a for a, b in zip(times['init=default'], times[init], strict=True)])}")
    print(environment("torchvision"), time.strftime("%Y-%m-%d"))


def builds(*overrides: str) -> Callable[[], object]:
    """A program that builds a run."""
    cfg = plain(mltricks.compose([*overrides, "threads=1"]))
    return lambda: build(cfg)


def said(seconds: list[float]) -> str:
    """Median with its range."""
    return f"median {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f}, n={len(seconds)})"


if __name__ == "__main__":
    main()
