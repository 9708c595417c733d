"""The data of a run: sizes, classes, and training samples as the model sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mltricks.figures.parts import Chart, Gallery, Section, Table, Text
from mltricks.figures.predictions import class_balance
from mltricks.observers.run_page.result import short
from mltricks.state import reseed_step
from mltricks.step import normalized, split_at_normalize, through
from mltricks.technique import Ctx, bind, defines
from mltricks.trivial import spread

if TYPE_CHECKING:
    from mltricks.batch import Batch
    from mltricks.build import Run

NUM_SAMPLES = 16
SHOW = 3
"""Folded into a step's seed, so that the samples shown have draws of their own."""


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
    return Section(f"Data: {short(run.cfg['data'])}", [Table([], rows), *balance], half=True)


def padded(shares: torch.Tensor, size: int) -> torch.Tensor:
    """Shares of all classes, also of those without samples at the end."""
    return torch.nn.functional.pad(shares, (0, max(0, size - len(shares))))


def samples_section(run: Run) -> Section | None:
    """Training samples after the techniques' ``batch``, in the order of the techniques, with their targets."""
    batch, info = seen_by_model(run), run.data.info
    images = info.input.pictures(info.input.denormalize(batch["x"]))
    if images is None:
        return None
    captions = [("", run.objective.caption(y, info)) for y in batch["y"].cpu()]
    changed = [name for name, technique in run.techniques.items() if defines(technique, "batch")]
    said = f"After {' + '.join(changed)}." if changed else "No technique changes them."
    gallery = Gallery(images, captions, "training_samples")
    return Section("Training samples as the model sees them", [gallery, Text(said)], half=True)


def seen_by_model(run: Run) -> Batch:
    """Training samples, evenly spaced since a split may be sorted by class, after every ``batch`` verb."""
    size = min(NUM_SAMPLES, len(run.data.train))
    at = spread(len(run.data.train), size)[:size]
    batch = next(run.data.train.batches([at]))
    bound = {name: bind(t, run.hypers.at(0).get(name, {})) for name, t in run.techniques.items()}
    raw, ready = split_at_normalize(bound)
    state = run.state
    buffers, step = dict(state["buffers"]), torch.zeros_like(state["step"])
    ctx = Ctx(run.model, buffers, state["own"], step, 0.0, run.data.info.num_outputs)
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        reseed_step(run.cfg["seed"], 0, SHOW)
        batch = normalized(through(bound, raw, batch, ctx), run.data.info.normalize)
        return through(bound, ready, batch, ctx)
