"""Transfer by number of labels: python benchmarks/transfer.py multirun/transfer [--data data] [--seeds 3]

A network trained on MNIST (10,000 images) is the start of a run on N images a class of Fashion-MNIST: only a new last
layer learns (features), all layers do (fine-tuning), or one after another does (gradual unfreezing); beside a run from
scratch. Every run makes the same number of updates. The learning rate of each of the four is the one of ``RATES`` with
the best validation accuracy at 100 images a class, seed 0. Finished runs are not run again. It prints the accuracies
on the test split, mean and 95% interval over the seeds, as a table, and writes them with their figure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import environment

import mltricks
from mltricks.figures.base import Figure, color, figure, line, log_axis
from mltricks.figures.still import save
from mltricks.sweep.statistics import mean_interval

SIZES = (10, 100, 1000)
"""Images a class."""
RATES = (1e-3, 3e-3, 1e-2)
UPDATES, BATCH, CLASSES = 400, 32, 10
SHARED = ("model=convnet", "scheduler=cosine", f"batch_size={BATCH}", "plots=false", "progress=none", "threads=1")
SOURCE = ("data=mnist", "data.limit=10000", "epochs=4")
TARGET = ("data=fashion_mnist", f"max_steps={UPDATES}", "epochs=100000", "eval_every_epochs=100000")
ARMS = {
    "from scratch": (),
    "features": ("technique=freeze",),
    "fine-tuning": (),
    "gradual unfreezing": ("technique=gradual_unfreezing+layerwise_lr", "technique.layerwise_lr.decay=0.38"),
}


def accuracy(folder: Path, overrides: Sequence[str], split: str) -> float:
    """The accuracy of a run, trained unless its folder has its summary."""
    summary = folder / "summary.json"
    if not summary.exists() or json.loads(summary.read_text())["status"] != "completed":
        mltricks.train(mltricks.compose([*SHARED, *overrides, f"hydra.run.dir={folder}", "overwrite=true"]), folder)
    return float(json.loads(summary.read_text())[split]["accuracy"])


def overrides_of(arm: str, size: int, seed: int, rate: float, source: Path, data: str) -> list[str]:
    """The command of one run on the second task."""
    start = [] if arm == "from scratch" else ["init=checkpoint", f"init.checkpoint={source}", "init.exclude=last_layer"]
    epochs = UPDATES / (size * CLASSES // BATCH)
    pace = [f"technique.gradual_unfreezing.epochs_per_layer={epochs / 5}"] if "gradual" in arm else []
    more = [f"data.root={data}", f"data.limit={size * CLASSES}", f"seed={seed}", f"optim.lr={rate}"]
    return [*TARGET, *start, *ARMS[arm], *pace, *more]


def measured(folder: Path, data: str, seeds: int, arms: Sequence[str]) -> dict[str, Any]:
    """All accuracies: by arm its learning rate, and for every size those of the seeds."""
    sources = [folder / f"mnist/{seed}" for seed in range(seeds)]
    for seed, source in enumerate(sources):
        accuracy(source, [*SOURCE, f"data.root={data}", f"seed={seed}"], "test")
    found: dict[str, Any] = {}
    for arm in arms:

        def run(size: int, seed: int, rate: float, split: str, arm: str = arm) -> float:
            where = folder / f"{arm.replace(' ', '_')}/{size}/{rate:g}/{seed}"
            return accuracy(where, overrides_of(arm, size, seed, rate, sources[seed], data), split)

        rate = max(RATES, key=lambda rate: run(100, 0, rate, "val"))
        found[arm] = {"rate": rate, "test": {n: [run(n, k, rate, "test") for k in range(seeds)] for n in SIZES}}
        print(row(arm, found[arm]), flush=True)
    return found


def row(arm: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    cells = []
    for values in found["test"].values():
        mean, low, high = mean_interval(values)
        cells.append(f"{mean:.3f} ± {(high - low) / 2:.3f}")
    return f"| {arm} | {found['rate']:g} | {' | '.join(cells)} |"


def picture(found: dict[str, Any]) -> Figure:
    """Accuracy over images a class, a line for every arm."""
    lines = []
    for i, (arm, values) in enumerate(found.items()):
        intervals = [mean_interval(of) for of in values["test"].values()]
        means, errors = [mean for mean, _, _ in intervals], [(high - low) / 2 for _, low, high in intervals]
        error = {"type": "data", "array": errors}
        sizes = [int(size) for size in values["test"]]
        lines.append(line(sizes, means, arm, color(i), mode="lines+markers", error_y=error))
    return figure(*lines, title="test accuracy", x=log_axis(SIZES, "images a class"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the runs, the table and the figure are kept")
    parser.add_argument("--data", default="data", help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(environment(), time.strftime("%Y-%m-%d"), flush=True)
    print(f"| images a class | lr | {' | '.join(map(str, SIZES))} |", flush=True)
    print(f"| --- | --- | {' | '.join('---' for _ in SIZES)} |", flush=True)
    found = measured(options.folder.absolute(), options.data, options.seeds, options.arms)
    (options.folder / "transfer.json").write_text(json.dumps(found, indent=1) + "\n")
    save(picture(found), options.folder / "transfer.png")


if __name__ == "__main__":
    main()
