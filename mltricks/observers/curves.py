"""Figures of a run: learning curves from its records, and schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mltricks.figures.plots import COLORS, new_figure
from mltricks.hyper import Hypers
from mltricks.observers.base import EPOCH, curve

NUM_POINTS = 500
NO_METRICS = ("step", "epoch", "split", "lr", "samples_per_s", "seconds")


def learning_curves(records: Sequence[dict[str, Any]], steps_per_epoch: int, score: str) -> Any:
    """Loss and score (or another metric) over epochs, in training and validation."""
    figure = new_figure(9, 3.2)
    others = [name for name in (score, "accuracy", *records[-1]) if name != "loss" and name in records[-1]]
    known = [name for name in others if name not in NO_METRICS and not name.startswith(EPOCH)]
    names = ["loss", *known[:1]]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for split in ("train", "val"):
            told = curve([r for r in records if r["split"] == split], name)
            points = [(step / steps_per_epoch, value) for step, value in told]
            marker = "o" if split == "val" or len(points) == 1 else ""
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=COLORS[split],
                    marker=marker,
                    markersize=3.5,
                    linewidth=1.5,
                    label=split,
                )
        values = [r[name] for r in records if r.get(name)]
        if name == "loss" and values and min(values) > 0 and max(values) / min(values) > 30:
            axes.set_yscale("log")
        axes.set(xlabel="epoch", title=name)
        axes.legend()
    return figure


def schedule(hypers: Hypers) -> Any:
    """The learning rate, and every other scheduled hyperparameter, over the steps; one panel each."""
    paths = [("optim", "lr"), *(path for path in hypers.drives if path != ("optim", "lr"))]
    paths = [path for path in paths if path in hypers.drives or path[1] in hypers.constants.get(path[0], {})]
    steps = sorted({round(i * (hypers.total_steps - 1) / NUM_POINTS) for i in range(NUM_POINTS + 1)})
    values = [hypers.values(step) for step in steps]
    columns = min(len(paths), 3)
    rows = math.ceil(len(paths) / columns)
    figure = new_figure(3 * columns if columns > 1 else 4.5, 2.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, path in zip(panels, paths, strict=False):
        constant = hypers.constants.get(path[0], {}).get(path[1])
        axes.plot(steps, [v.get(path, constant) for v in values], color=COLORS["train"])
        axes.set(xlabel="step", title=".".join(path))
    for axes in panels[len(paths) :]:
        axes.set_axis_off()
    return figure
