"""Helpers of the contract tests: small runs, the list of techniques and of pairs, and the facts on their cards."""

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
import yaml
from conftest import EXACT, fitting
from statements import Statement, read_statement

import mltricks
from mltricks import checkpoint
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.create import locate
from mltricks.config.options import conf_dir
from mltricks.state import State, leaves, reseed_step
from mltricks.step import works_on_raw

SMALL = ["data.limit=320", "batch_size=16", "model.width=4", "epochs=4", "optim.lr=3e-3", *EXACT]

PAIRS_A_RUN = 100
"""Pairs that one run of the suite tests. ``--pairs-shard`` selects others, ``pytest -m allpairs`` tests all."""

MODELS = ("DropoutAfterConvolution", "DropoutInChannelsLast", "MaximaOfPlainBackgrounds", "NormsOfPlainBackgrounds")
"""Models of ``contract_models`` with which techniques must also keep the contract: layouts, one channel, ties."""

KINDS = {
    "tokens": ["data=text", "data.path={here}/contract_data.py", "data.length=8", "model.depth=1", "model.heads=2"],
    "vector": ["data=custom", "data._target_=contract_data.Blobs", "allow_modules=[contract_data]", "model=mlp"],
    "values": [
        *("data=custom", "data._target_=contract_data.Slope", "allow_modules=[contract_data]", "model=mlp"),
        "objective=regress",
    ],
    "labels": [
        *("data=custom", "data._target_=contract_data.Sets", "allow_modules=[contract_data]", "model=mlp"),
        "objective=bce",
    ],
    "similarity": ["data=digit_pairs", "model=siamese", "objective=contrastive"],
    "mask": ["data=digit_masks", "model=fcn", "model.depth=1", "objective=segment"],
    "pair": ["data=digit_halves", "model=two_towers"],
    **{name: contract_models.overrides(name) for name in MODELS},
}
"""Inputs, objectives and models, besides digits and convnet, with which techniques must also keep the contract."""


def techniques() -> list[str]:
    """Names of all techniques that have a YAML file."""
    return sorted(path.stem for path in (conf_dir() / "technique").glob("[a-z]*.yaml"))


@cache
def statement(name: str) -> Statement:
    """The facts on the card of a technique."""
    return read_statement(conf_dir() / "technique" / f"{name}.yaml")


def place(*names: str) -> float:
    """A number in [0, 1) computed from the names alone, so that it does not change when options are added."""
    return zlib.crc32("+".join(sorted(names)).encode()) / 2**32


def pairs() -> list[tuple[str, str]]:
    """All pairs of techniques; a hash of the two names decides which of them comes first in a pair.

    Only those that need raw pixels always stand in front of those that work on normalised images.
    """
    every = list(combinations(techniques(), 2))
    hashed = [pair if zlib.crc32("".join(pair).encode()) % 2 else pair[::-1] for pair in every]
    return [
        (b, a) if technique_class(b).needs_raw and not works_on_raw(technique_class(a)) else (a, b) for a, b in hashed
    ]


@cache
def technique_class(name: str) -> Any:
    """The class of a technique."""
    node = yaml.safe_load((conf_dir() / "technique" / f"{name}.yaml").read_text())["technique"][name]
    return locate(node["_target_"], f"technique.{name}", [])


def turn(every: Sequence[tuple[str, str]], shard: int, budget: int) -> list[tuple[str, str]]:
    """One shard of the pairs, about ``budget`` of them. Shards do not overlap, and together they hold all pairs."""
    shards = max(1, math.ceil(len(every) / budget))
    return [pair for pair in every if int(place(*pair) * shards) == shard % shards]


def chosen(every: Sequence[tuple[str, str]], budget: int, config: pytest.Config) -> list[tuple[str, str]]:
    """All pairs with ``pytest -m allpairs``, else those of the shard ``--pairs-shard``."""
    if "allpairs" in config.getoption("-m"):
        return list(every)
    return turn(every, config.getoption("--pairs-shard"), budget)


def needs(names: Iterable[str], teacher: Callable[..., Path], kind: Sequence[str] = ()) -> list[str]:
    """The overrides that these techniques need on top of ``SMALL``, with a teacher on the same data."""
    overrides = [override for name in names for override in statement(name).needs]
    return [o.replace("=RUN", f"={teacher(*kind)}") if o.endswith("=RUN") else o for o in overrides]


def stacked_as(names: Iterable[str]) -> str:
    """The override that selects these techniques."""
    return f"technique=[{','.join(names)}]"


def untraced(*names: str) -> bool:
    """Whether the card of one of these techniques says that no engine can trace it."""
    return any("engine=traced" in statement(name).not_with for name in names)


def make(*overrides: str) -> Run:
    """Build a run on a part of the digits."""
    return build(deepcopy(composed(*fitting(SMALL, overrides), *overrides)))


@cache
def composed(*overrides: str) -> dict[str, Any]:
    """Compose a configuration. Cached, because composing takes five times as long as building the run."""
    return plain(mltricks.compose(list(overrides)))


def reason_against(overrides: Sequence[str]) -> str:
    """The reason why ``build`` refuses a run; empty if it does not."""
    try:
        make(*overrides)
    except ValueError as error:
        return str(error)
    return ""


def advance(run: Run, steps: int, start: int = 0) -> list[float]:
    """Make updates as the loop does; return the losses."""
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
    """Check that two nested dicts of tensors are equal bit for bit."""
    for x, y in zip(leaves(a), leaves(b), strict=True):
        assert torch.equal(x, y)


def assert_resumes_exactly(overrides: Sequence[str], stop: int, total: int, path: Path) -> list[float]:
    """Check that a run saved after ``stop`` updates and resumed ends in the state of the uninterrupted run.

    Returns:
        The losses of the uninterrupted run.
    """
    whole = make(*overrides)
    losses = advance(whole, stop)
    checkpoint.save(path, whole.state, whole.cfg)
    losses += advance(whole, total - stop, start=stop)
    second = make(*overrides)
    second.state = checkpoint.restore(checkpoint.load(path)["state"], second.state, path)
    advance(second, total - stop, start=stop)
    assert_same(whole.state, second.state)
    return losses
