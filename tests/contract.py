"""What the contract tests know about each technique: what it needs, and the setting at which it changes nothing."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EXACT

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.options import conf_dir
from mltricks.state import State, leaves, reseed_step

SMALL = ["data.limit=320", "batch_size=16", "model.width=4", "epochs=4", "optim.lr=3e-3", *EXACT]

INDUCTOR = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
"""For tests that compile: Inductor of torch 2.11 uses it on CUDA, and a warning as an error fails the compilation."""

NEEDS: dict[str, list[str]] = {
    "fixmatch": ["data.unlabeled_ratio=2", "data.limit=160"],
    "stochastic_depth": ["model=resnet9", "model.pool=mean"],
}
"""Overrides without which a technique is refused."""

OFF: dict[str, list[str]] = {
    "ema": [],
    "clip_norm": ["technique.clip_norm.max_norm=1e9"],
    "accumulate": ["technique.accumulate.num_micro=1"],
    "layerwise_lr": ["technique.layerwise_lr.decay=1.0"],
    "dropout": ["technique.dropout.p=0.0"],
    "label_smoothing": ["technique.label_smoothing.epsilon=0.0"],
    "l1": ["technique.l1.conv=0", "technique.l1.linear=0"],
    "l2": ["technique.l2.conv=0", "technique.l2.linear=0"],
    "elastic_net": ["technique.elastic_net.conv=0", "technique.elastic_net.linear=0"],
    "sam": ["technique.sam.rho=0.0"],
    "cutmix": ["technique.cutmix.p_batch=0.0"],
    "flip": ["technique.flip.p=0.0"],
    "crop": ["technique.crop.padding=0"],
    "distill": ["technique.distill.weight=0.0"],
    "stochastic_depth": ["technique.stochastic_depth.p=0.0"],
}
"""Settings at which training must equal the run without the technique, bit for bit."""


def techniques() -> list[str]:
    """Every technique that has a YAML."""
    return sorted(path.stem for path in (conf_dir() / "technique").glob("[a-z]*.yaml"))


def pairs(count: int) -> list[tuple[str, str]]:
    """A fixed sample of ordered pairs of techniques."""
    names = techniques()
    every = [(a, b) for a in names for b in names if a != b]
    return random.Random(0).sample(every, min(count, len(every)))


def needs(names: tuple[str, ...], teacher: Path | None = None) -> list[str]:
    """The overrides that these techniques need on top of ``SMALL``."""
    overrides = [o for name in names for o in NEEDS.get(name, [])]
    if "distill" in names:
        overrides.append(f"technique.distill.teacher={teacher}")
    return overrides


def make(*overrides: str) -> Run:
    """A run on a part of the digits."""
    return build(plain(mltricks.compose([*SMALL, *overrides])))


def advance(run: Run, steps: int, start: int = 0) -> list[float]:
    """Make updates as the loop does; the losses."""
    losses = []
    for i, batch in enumerate(islice(run.batches(start), steps), start):
        reseed_step(run.cfg["seed"], i)
        run.state, metrics = run.step(run.state, batch, run.hypers.at(i))
        losses.append(float(metrics["loss"]))
    return losses


def largest_difference(a: State, b: State) -> float:
    """The largest absolute difference between two states, over all tensors."""
    pairs_of_leaves = zip(leaves(a), leaves(b), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs_of_leaves if x.numel())


def assert_same(a: Any, b: Any) -> None:
    """Two nested dicts of tensors are equal bit for bit."""
    for x, y in zip(leaves(a), leaves(b), strict=True):
        assert torch.equal(x, y)
