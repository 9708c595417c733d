"""K trials in one stack, compared with K trials one after another in the same process: python benchmarks/stack.py

Both use the traced engine of mltricks, which is as fast as a hand-written loop (step_overhead.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import environment, race, report

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.stack.run import StackedRun
from mltricks.state import reseed_step

STEPS = 30
CASES = [("convnet", 4, 16, 16), ("mlp", 16, 16, 64), ("mlp", 32, 32, 32), ("mlp", 128, 32, 16)]
"""Model, width, batch size and number of trials."""


def configurations(model: str, width: int, batch_size: int, trials: int) -> list[dict]:
    shared = [
        f"model={model}",
        f"model.width={width}",
        f"batch_size={batch_size}",
        "optim=sgd",
        "engine=traced",
        "epochs=100",
    ]
    return [plain(mltricks.compose([*shared, f"optim.lr={0.01 * 1.05**k:.6f}", f"seed={k}"])) for k in range(trials)]


def one_by_one(cfgs: list[dict]) -> Callable[[], None]:
    runs = [build(cfg) for cfg in cfgs]

    def train() -> None:
        for run in runs:
            for i, batch in zip(range(STEPS), run.source.stream(0), strict=False):
                reseed_step(run.cfg["seed"], i)
                run.state, _ = run.step(run.state, batch, run.hypers.at(i))

    return train


def stacked(cfgs: list[dict]) -> Callable[[], None]:
    run = StackedRun([build(cfg) for cfg in cfgs])
    return lambda: run.advance(STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", type=int, default=len(CASES), help="number of cases to run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(environment())
    for model, width, batch_size, trials in CASES[: options.cases]:
        cfgs = configurations(model, width, batch_size, trials)
        times = race({"stack": stacked(cfgs), "one by one": one_by_one(cfgs)}, options.rounds)
        title = f"{model}, width {width}, batch {batch_size}, K={trials}: microseconds a trial-step"
        report(title, times, ["stack"], 1e6 / STEPS / trials)


if __name__ == "__main__":
    main()
