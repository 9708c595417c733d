"""What frozen layers save: python benchmarks/freeze.py [--rounds 9]

CPU time of a training step in which only the last layer learns, and of one in which all layers learn but the update
of the lower ones is taken back (``freeze_then_unfreeze``), divided by that of an ordinary step; one thread, eager, in
turn.
The forward pass alone, timed in the same way, is the least that a step can take.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice

import torch
from costs import Steps, ratios
from harness import environment

MODELS = {
    "mlp": ("model=mlp", "model.width=256", "model.depth=3"),
    "convnet": ("model=convnet",),
    "resnet9": ("model=resnet9", "model.width=16"),
    "vit": ("model=vit", "model.depth=4"),
}
OPTIONS = {
    "freeze": ("technique=freeze",),
    "freeze_then_unfreeze": ("technique=freeze_then_unfreeze", "technique.freeze_then_unfreeze.frozen_frac=0.99"),
}


class Forwards(Steps):
    """A run that only computes the outputs of its batches, whenever it is called."""

    def __call__(self, steps: int) -> float:
        start, run = time.process_time(), self.run
        with torch.no_grad():
            for _, batch in islice(self.batches, steps):
                run.model(run.state["params"], run.state["buffers"], run.data.info.normalize(batch["x"]), True)
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("overrides", nargs="*", default=["data=digits", "epochs=50"], help="the data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(environment(), flush=True)
    for model, settings in MODELS.items():
        base = [*options.overrides, *settings]
        for name, option in OPTIONS.items():
            print(f"{model:>8} {name:>21}: {said(ratios(base, option, options.rounds, options.steps))}", flush=True)
        forward, step = Forwards(base), Steps(base)
        forward(options.steps), step(options.steps)
        found = [forward(options.steps) / step(options.steps) for _ in range(options.rounds)]
        print(f"{model:>8} {'forward pass alone':>21}: {said(found)}", flush=True)


def said(found: list[float]) -> str:
    """The median of ratios with their range."""
    return f"median {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}, n={len(found)})"


if __name__ == "__main__":
    main()
