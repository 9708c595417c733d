"""A CNN on MNIST in stacks of K on a GPU, compared with one trial after another: python benchmarks/gpu_stack.py

The network has convolutions of 32 and 64 channels, as in PyTorch's tutorials. It is compared with a loop over mltricks'
own runs with the same engine, whose data are all on the device. Needs MNIST under ``--data``. To check that the script
works without a GPU: ``--device cpu --engines traced``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import environment, race, report

import mltricks
from mltricks.config.compose import plain
from mltricks.stack.run import StackedRun, build_all
from mltricks.state import reseed_step


def configurations(options: argparse.Namespace, engine: str, trials: int) -> list[dict]:
    shared = ["data=mnist", f"data.root={options.data}", "model=convnet", "model.width=32", "optim=sgd", "epochs=100"]
    shared += [f"batch_size={options.batch_size}", f"engine={engine}", f"device={options.device}"]
    return [plain(mltricks.compose([*shared, f"optim.lr={0.01 * 1.02**k:.6f}", f"seed={k}"])) for k in range(trials)]


def one_by_one(cfgs: list[dict], steps: int) -> Callable[[], None]:
    runs = build_all(cfgs)

    def train() -> None:
        for run in runs:
            for i, batch in zip(range(steps), run.source.stream(0), strict=False):
                reseed_step(run.cfg["seed"], i)
                run.state, _ = run.step(run.state, batch, run.hypers.at(i))
        wait(runs[0].device)

    return train


def stacked(cfgs: list[dict], steps: int) -> Callable[[], None]:
    run = StackedRun(build_all(cfgs))

    def train() -> None:
        run.advance(steps)
        wait(run.runs[0].device)

    return train


def wait(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 6, 16, 64], help="sizes of the stack")
    parser.add_argument("--engines", nargs="+", default=["traced", "graph"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="data", help="folder of downloaded data")
    options = parser.parse_args()
    print(environment())
    print(torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device)
    for engine in options.engines:
        for trials in options.trials:
            cfgs = configurations(options, engine, trials)
            contestants = {"stack": stacked(cfgs, options.steps), "one by one": one_by_one(cfgs, options.steps)}
            times = race(contestants, options.rounds)
            title = f"{engine}, K={trials}: microseconds a trial-step"
            report(title, times, ["stack"], 1e6 / options.steps / trials)


if __name__ == "__main__":
    main()
