"""How a run trained: learning curves, schedules, norms of its layers, time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mltricks.figures import training as draw
from mltricks.figures.parts import Chart, Section, Table, Text
from mltricks.figures.training import Points, as_points
from mltricks.hyper import Hypers
from mltricks.observers.base import EPOCH, curve
from mltricks.observers.run_page.words import duration

if TYPE_CHECKING:
    from mltricks.summary import Summary

NUM_POINTS = 500
PHASES = ("load", "train", "validate", "test", "report")
NO_METRICS = ("step", "epoch", "split", "lr", "samples_per_s", "seconds")
Records = Sequence[dict[str, Any]]


def curves_section(records: Records, steps_per_epoch: int, score: str, summary: Summary) -> Section | None:
    """Loss and score over epochs, in training and validation."""
    found = learning_curves(records, steps_per_epoch, score)
    if not any(found.values()):
        return None
    chart = Chart("learning_curves", draw.learning_curves(found, summary.epoch_of.get("val")), still=True)
    return Section("Learning curves", [chart])


def learning_curves(records: Records, steps_per_epoch: int, score: str) -> dict[str, dict[str, Points]]:
    """By metric and split: epochs and values. The metrics are the loss, and the score or else another one."""
    known = [r for r in records if r["split"] in ("train", "val")]
    last = known[-1] if known else {}
    others = [name for name in (score, "accuracy", *last) if name != "loss" and name in last]
    others = [name for name in others if name not in NO_METRICS and not name.startswith(EPOCH)]
    found: dict[str, dict[str, Points]] = {}
    for name in ["loss", *others[:1]]:
        for split in ("train", "val"):
            told = curve([r for r in known if r["split"] == split], name)
            if told:
                points = as_points([(step / steps_per_epoch, value) for step, value in told])
                found.setdefault(name, {})[split] = points
    return found


def schedule_section(hypers: Hypers) -> Section | None:
    """Every hyperparameter that changes in the course of the run."""
    steps = sorted({round(i * (hypers.total_steps - 1) / NUM_POINTS) for i in range(NUM_POINTS + 1)})
    values = [hypers.values(step) for step in steps]
    found = {".".join(path): (steps, [v[path] for v in values]) for path in hypers.drives}
    changing = {name: points for name, points in found.items() if min(points[1]) < max(points[1])}
    return (
        Section("Schedule", [Chart("schedule", draw.schedules(changing), still=True)], half=True) if changing else None
    )


def layers_section(records: Records) -> Section | None:
    """Norms of the gradient, of the weights and of an update, for groups of layers."""
    if not records:
        return None
    groups: dict[str, dict[str, Points]] = {}
    for name in records[0]["groups"]:
        rows = [(r["step"], r["groups"][name]) for r in records if name in r["groups"]]
        groups[name] = {
            key: as_points([(step, row[key]) for step, row in rows]) for key in ("gradient", "weight", "ratio")
        }
    said = (
        "The gradient is that of the training loss on the first batch. The ratio is the norm of an update divided by "
        "that of the weights; about 0.001, the shaded range, is usual."
    )
    return Section("Layers", [Chart("layers", draw.layer_norms(groups)), Text(said)])


def time_section(records: Records, steps_per_epoch: int, summary: Summary) -> Section | None:
    """Training samples per second, and the seconds of each phase."""
    train = [r for r in records if r["split"] == "train"]
    parts: list[Chart | Table | Text] = []
    if train:
        points = [(r["step"] / steps_per_epoch, r["samples_per_s"]) for r in train]
        parts.append(Chart("throughput", draw.throughput(*as_points(points))))
    if summary.phases:
        seconds = {name: summary.phases[name] for name in PHASES if name in summary.phases}
        parts.append(Chart("phases", draw.phases(seconds)))
    if summary.fused:
        said = (
            f"Trained in a stack of {summary.fused['trials']} trials, whose time this is: {duration(summary.seconds)}."
        )
        parts.append(Text(said))
    return Section("Time", parts, half=True) if parts else None
