"""The data of a run: sizes, classes, and training samples as the model sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mltricks.config.options import called
from mltricks.figures.parts import Chart, Gallery, Section, Table, Text
from mltricks.figures.predictions import class_balance
from mltricks.seen import seen_by_model
from mltricks.technique import defines
from mltricks.trivial import spread

if TYPE_CHECKING:
    from mltricks.build import Run

NUM_SAMPLES = 16


def data_section(run: Run) -> Section:
    """The sizes of the splits, what a sample is, and how often each class occurs."""
    data, info = run.data, run.data.info
    rows: list[list[Any]] = [[name, len(getattr(data, name))] for name in ("train", "val", "test")]
    rows = [[{"train": "training", "val": "validation"}.get(name, name), f"{size:,} samples"] for name, size in rows]
    rows += [["unlabelled", f"{len(data.unlabeled):,} samples"]] if data.unlabeled is not None else []
    rows += [["one sample", str(info.input)], ["one target", run.objective.target_words(info)]]
    found = {name: run.objective.shares(getattr(data, name)) for name in ("train", "val", "test")}
    shares = {name: padded(part, info.num_outputs).tolist() for name, part in found.items() if part is not None}
    balance = [Chart("class_balance", class_balance(shares, info.class_names))] if shares else []
    return Section(f"Data: {called(run.cfg['data'])}", [Table([], rows), *balance], half=True)


def padded(shares: torch.Tensor, size: int) -> torch.Tensor:
    """Shares of all classes, also of those without samples at the end."""
    return torch.nn.functional.pad(shares, (0, max(0, size - len(shares))))


def samples_section(run: Run) -> Section | None:
    """Training samples after the techniques' ``batch``, in the order of the techniques, with their targets."""
    at, info = spread(len(run.data.train), NUM_SAMPLES)[:NUM_SAMPLES], run.data.info  # a split may be sorted by class
    batch = next(run.data.train.batches([at]))
    if run.data.unlabeled is not None:  # a technique's ``batch`` may ask for some
        batch |= {"x_unlabeled": next(run.data.unlabeled.batches([spread(len(run.data.unlabeled), NUM_SAMPLES)]))["x"]}
    batch = seen_by_model(run, batch)
    images = info.input.pictures(info.input.denormalize(batch["x"]))
    if images is None:
        return None
    captions = [("", run.objective.caption(y, info)) for y in batch["y"].cpu()]
    targets = run.objective.target_pictures(batch["y"])
    images = images if targets is None else torch.cat([images, targets], 2)
    on_labelled = {name: t for name, t in run.techniques.items() if "x_unlabeled" not in t.needs}
    changed = [name for name, t in on_labelled.items() if defines(t, "batch") or defines(t, "on_host")]
    said = f"After {' + '.join(changed)}." if changed else "No technique changes them."
    said += "" if targets is None else " Each picture with its target beside it."
    gallery = Gallery(images, captions, "training_samples", wide=targets is not None)
    return Section("Training samples as the model sees them", [gallery, Text(said)], half=targets is None)
