"""Stacks compared with loops over separate models, from tiny MLPs to ConvNets: python benchmarks/fused_cells.py

Three programs train K models with SGD and momentum, each with its own learning rate, on the same random data:

- ``loop``: K modules in a hand-written loop with torch.optim (foreach), one after another, which index inputs that were
  normalised beforehand;
- ``eager``: K runs of mltricks, one after another;
- ``stack``: the choice of the probe: stacks of the size that it chooses, or the runs one after another.

Times are CPU seconds of the process, which has one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from harness import environment, race, report
from torch import Tensor, nn

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.image import Image
from mltricks.launch import probe as probing
from mltricks.stack.run import StackedRun
from mltricks.state import reseed_step

SAMPLES = 4096


@dataclass(frozen=True)
class Cell:
    """One architecture, batch size and number of trials. ``shared``: all trials have the same seed."""

    model: str
    width: int
    size: int
    batch_size: int
    trials: int
    shared: bool = False

    @property
    def title(self) -> str:
        seeds = "one seed" if self.shared else "own seeds"
        return f"{self.model} {self.width}, {self.size}x{self.size}, batch {self.batch_size}, K={self.trials}, {seeds}"


CELLS = [
    Cell("mlp", 16, 28, 16, 64),
    Cell("mlp", 16, 28, 16, 64, shared=True),
    Cell("mlp", 32, 28, 32, 32),
    Cell("mlp", 32, 28, 128, 16),
    Cell("mlp", 128, 28, 32, 16),
    Cell("mlp", 128, 28, 32, 16, shared=True),
    Cell("mlp", 128, 28, 128, 16),
    Cell("mlp", 512, 28, 128, 8),
    Cell("conv", 4, 16, 16, 32),
    Cell("conv", 8, 16, 32, 8),
    Cell("conv", 8, 16, 32, 8, shared=True),
    Cell("conv", 8, 28, 32, 8),
    Cell("conv", 16, 28, 32, 8),
    Cell("conv", 32, 32, 64, 8),
    Cell("conv", 64, 32, 32, 8),
]


class Perceptron(nn.Sequential):
    """784-h-h-10."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int):
        pixels = in_shape[0] * in_shape[1] * in_shape[2]
        layers = [nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        super().__init__(*layers, nn.Linear(width, num_outputs))


class Convolutions(nn.Sequential):
    """Twice convolution, batch norm, ReLU and pooling; then a linear layer."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int):
        layers: list[nn.Module] = []
        for fan_in, fan_out in ((in_shape[0], width), (width, 2 * width)):
            convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(2 * width * (in_shape[1] // 4) ** 2, num_outputs))


MODELS = {"mlp": Perceptron, "conv": Convolutions}


def random_data(cell: Cell) -> DataSplits:
    """Grey images for perceptrons, coloured ones for convolutions, in ten classes."""
    torch.manual_seed(0)
    channels = {"mlp": 1, "conv": 3}[cell.model]
    x = torch.randint(256, (SAMPLES, cell.size, cell.size, channels), dtype=torch.uint8)
    split = MemorySplit(x, torch.randint(10, (SAMPLES,)), image=True)
    mean, std = torch.full((channels, 1, 1), 128.0), torch.full((channels, 1, 1), 74.0)
    info = Info(Image((channels, cell.size, cell.size), mean, std), "classes", 10, tuple("0123456789"))
    return DataSplits(split, split, split, info)


def configurations(cell: Cell) -> list[dict]:
    """One configuration per trial; they differ in the learning rate, and in the seed unless it is shared."""
    name = MODELS[cell.model].__name__
    model = ["model=custom", f"model._target_={__name__}.{name}", f"+model.width={cell.width}"]
    shared = [*model, f"allow_modules=[{__name__}]", f"batch_size={cell.batch_size}", "optim=sgd", "epochs=100"]
    own = [f"seed={0 if cell.shared else k}" for k in range(cell.trials)]
    return [plain(mltricks.compose([*shared, f"optim.lr={rate(k)}", own[k]])) for k in range(cell.trials)]


def rate(k: int) -> float:
    return round(0.01 * 1.02**k, 6)


def loop(cell: Cell, data: DataSplits, steps: int) -> Callable[[], None]:
    """K separate modules, in an ordinary training loop."""
    x, y = data.info.normalize(data.train.x.permute(0, 3, 1, 2)), data.train.y
    nets = [MODELS[cell.model](data.info.in_shape, 10, cell.width) for _ in range(cell.trials)]
    optims = [torch.optim.SGD(net.parameters(), rate(k), momentum=0.9, foreach=True) for k, net in enumerate(nets)]
    seeds = [0 if cell.shared else k for k in range(cell.trials)]
    orders = [torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed)) for seed in seeds]

    def one(net: nn.Module, optim: torch.optim.Optimizer, index: Tensor) -> None:
        loss = F.cross_entropy(net(x[index]), y[index])
        optim.zero_grad()
        loss.backward()
        optim.step()

    def train() -> None:
        for net, optim, order in zip(nets, optims, orders, strict=True):
            for i in range(steps):
                one(net, optim, order[i * cell.batch_size : (i + 1) * cell.batch_size])

    return train


def one_by_one(runs: list[Run], steps: int) -> Callable[[], None]:
    """Runs of mltricks, advanced as ``mltricks.train`` does."""

    def train() -> None:
        for run in runs:
            for i, batch in zip(range(steps), run.source.stream(0), strict=False):
                reseed_step(run.cfg["seed"], i)
                run.state, _ = run.step(run.state, batch, run.hypers.at(i))

    return train


def stacked(runs: list[Run], size: int, steps: int) -> Callable[[], None]:
    """Stacks of the given size; the last may be smaller. Tracing happens in the warm-up round, which is not counted."""
    stacks = [StackedRun(runs[i : i + size]) for i in range(0, len(runs), size)]

    def train() -> None:
        for stack in stacks:
            stack.advance(steps)

    return train


def measure(cell: Cell, rounds: int, steps: int) -> None:
    cfgs, data = configurations(cell), random_data(cell)
    begun = time.perf_counter()
    runs = [build(cfg, data) for cfg in cfgs]
    built = time.perf_counter() - begun
    pair = [build(cfgs[0], data), build(probing.blend(cfgs), data)]
    alone = probing.seconds_alone(pair[0])
    found = probing.decide(pair, cell.trials, alone) if alone < probing.SLOW_S["cpu"] else None
    size = found.stack_size if found else 1
    contestant = stacked(runs, size, steps) if size > 1 else one_by_one([build(c, data) for c in cfgs], steps)
    contestants = {"loop": loop(cell, data, steps), "eager": one_by_one(runs, steps), "stack": contestant}
    times = race(contestants, rounds, time.process_time)
    report(f"{cell.title}: microseconds a trial-step", times, ["stack"], 1e6 / steps / cell.trials)
    for peer in ("loop", "eager"):
        ratios = sorted(a / b for a, b in zip(times[peer], times["stack"], strict=True))
        print(f"x{ratios[0]:.2f} (min), x{ratios[len(ratios) // 2]:.2f} (median) against {peer}")
    chosen = f"stacks of {size}, traced in {found.trace_s:.2f} s" if found and size > 1 else "one by one"
    print(f"the probe chooses {chosen}; {cell.trials} runs were built in {built:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument(
        "--cells", type=int, nargs="*", default=list(range(len(CELLS))), help="indices of the cells to run"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(environment())
    for number in options.cells:
        measure(CELLS[number], options.rounds, options.steps)


if __name__ == "__main__":
    main()
