"""What the contract tests share: small runs, which techniques and pairs there are, and what their cards state."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cache
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import contract_models
import pytest
import torch
from conftest import EXACT, fitting
from statements import Statement, read_statement

import mltricks
from mltricks import checkpoint
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.options import conf_dir
from mltricks.state import State, leaves, reseed_step

SMALL = ["data.limit=320", "batch_size=16", "model.width=4", "epochs=4", "optim.lr=3e-3", *EXACT]

PAIRS_A_RUN = 100
"""Pairs that one run of the suite tries; the others have their turn in other runs, or in ``pytest -m allpairs``."""

MODELS = ("DropoutAfterConvolution", "DropoutInChannelsLast", "MaximaOfPlainBackgrounds", "NormsOfPlainBackgrounds")
"""Models of ``contract_models`` on which techniques keep the contract too: layouts, one channel, ties."""

KINDS = {
    "tokens": ["data=text", "data.path={here}/contract_data.py", "data.length=8", "model.depth=1", "model.heads=2"],
    "vector": ["data=custom", "data._target_=contract_data.Blobs", "allow_modules=[contract_data]", "model=mlp"],
    "values": [
        *("data=custom", "data._target_=contract_data.Slope", "allow_modules=[contract_data]", "model=mlp"),
        "objective=regress",
    ],
    "mask": ["data=digit_masks", "model=fcn", "model.depth=1", "objective=segment"],
    "pair": ["data=digit_halves", "model=two_towers"],
    **{name: contract_models.overrides(name) for name in MODELS},
}
"""Inputs, objectives and models besides the digits and the convnet, on which techniques keep the contract too."""


def techniques() -> list[str]:
    """Every technique that has a YAML."""
    return sorted(path.stem for path in (conf_dir() / "technique").glob("[a-z]*.yaml"))


@cache
def statement(name: str) -> Statement:
    """What the card of a technique states."""
    return read_statement(conf_dir() / "technique" / f"{name}.yaml")


def place(*names: str) -> float:
    """A number in [0, 1) that depends on the names alone, so that it stays when options are added."""
    return zlib.crc32("+".join(sorted(names)).encode()) / 2**32


def pairs() -> list[tuple[str, str]]:
    """Every two techniques, in an order that their names decide."""
    every = list(combinations(techniques(), 2))
    return [pair if zlib.crc32("".join(pair).encode()) % 2 else pair[::-1] for pair in every]


def turn(every: Sequence[tuple[str, str]], shard: int, budget: int) -> list[tuple[str, str]]:
    """About ``budget`` of the pairs; those of another shard are others, and all shards together are all pairs."""
    shards = max(1, math.ceil(len(every) / budget))
    return [pair for pair in every if int(place(*pair) * shards) == shard % shards]


def chosen(every: Sequence[tuple[str, str]], budget: int, config: pytest.Config) -> list[tuple[str, str]]:
    """All pairs under ``pytest -m allpairs``, else those whose turn it is."""
    if "allpairs" in config.getoption("-m"):
        return list(every)
    return turn(every, config.getoption("--pairs-shard"), budget)


def needs(names: Iterable[str], teacher: Callable[..., Path], kind: Sequence[str] = ()) -> list[str]:
    """The overrides that these techniques need on top of ``SMALL``, with a teacher on the same data."""
    overrides = [override for name in names for override in statement(name).needs]
    return [o.replace("=RUN", f"={teacher(*kind)}") if o.endswith("=RUN") else o for o in overrides]


def stacked_as(names: Iterable[str]) -> str:
    """The override that chooses these techniques."""
    return f"technique=[{','.join(names)}]"


def make(*overrides: str) -> Run:
    """A run on a part of the digits."""
    return build(deepcopy(composed(*fitting(SMALL, overrides), *overrides)))


@cache
def composed(*overrides: str) -> dict[str, Any]:
    """The configuration of a run, composed once: that takes five times as long as building the run."""
    return plain(mltricks.compose(list(overrides)))


def reason_against(overrides: Sequence[str]) -> str:
    """Why a run is refused when it is built; empty where it is not."""
    try:
        make(*overrides)
    except ValueError as error:
        return str(error)
    return ""


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


def assert_resumes_exactly(overrides: Sequence[str], stop: int, total: int, path: Path) -> list[float]:
    """A run that is saved after ``stop`` updates and goes on elsewhere ends as if nothing had been; its losses."""
    whole = make(*overrides)
    losses = advance(whole, stop)
    checkpoint.save(path, whole.state, whole.cfg)
    losses += advance(whole, total - stop, start=stop)
    second = make(*overrides)
    second.state = checkpoint.restore(checkpoint.load(path)["state"], second.state, path)
    advance(second, total - stop, start=stop)
    assert_same(whole.state, second.state)
    return losses
