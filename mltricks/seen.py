"""A training batch as the model sees it: for the report, and for looking at augmentation before a run."""

from __future__ import annotations

import torch

from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.state import reseed_step
from mltricks.step import normalized, on_host, split_at_normalize, through
from mltricks.technique import Ctx, bind


def first_batch(run: Run) -> Batch:
    """The batch of the first update, with the random numbers of that update."""
    return seen_by_model(run, next(run.source.stream(0, lambda: run.state["sampler"])))


def seen_by_model(run: Run, batch: Batch) -> Batch:
    """A raw training batch after normalisation and every technique's ``batch``, drawn as in the first update.

    The run's state and the random state of the process stay as they are.
    """
    bound = {name: bind(t, run.hypers.at(0).get(name, {})) for name, t in run.techniques.items()}
    raw, ready = split_at_normalize(bound)
    state, seed = run.state, run.cfg["seed"]
    parts = dict(state["buffers"]), state["own"], torch.zeros_like(state["step"])
    ctx = Ctx(run.model, *parts, 0.0, run.data.info.num_outputs, steps_per_epoch=run.source.steps_per_epoch)
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        batch = on_host(run.techniques, batch, seed, 0)
        batch = batch if run.shapes is None else run.shapes.bring(batch, 0.0)
        reseed_step(seed, 0)
        batch = normalized(through(bound, raw, batch, ctx), run.data.info.normalize)
        return through(bound, ready, batch, ctx)
