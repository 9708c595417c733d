"""Optimisers against torch.optim, the authors' packages and formulas in float64: 200 updates on the same gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from test_optim import Params, make, model, random_gradients
from torch import Tensor

from mltricks.functional import foreach
from mltricks.state import leaves, map_state
from mltricks.technique import bind, floats_of

STEPS = 200
SMALL = {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight"}
"""A part of the model's parameters: a tensor of every shape."""


def start() -> Params:
    return {name: p.detach().double() for name, p in model().named_parameters() if name in SMALL}


@functools.cache
def gradients(steps: int = STEPS) -> list[Params]:
    return [{name: g.double() for name, g in grads.items()} for grads in random_gradients(start(), steps)]


def updated(optim: Any, way: str = "pure", rate: Callable[[int], float] | None = None) -> tuple[Params, Any]:
    """The weights after 200 updates in float64, and the optimiser's tensors.

    Args:
        optim: the optimiser.
        way: how it is called.
        rate: the learning rate of an update; by default the configured one.
    """
    params, opt = start(), map_state(Tensor.double, optim.init(start()))
    if way in ("tensors", "unrolled"):
        exact = {name: torch.tensor(value, dtype=torch.float64) for name, value in floats_of(optim).items()}
        optim = bind(optim, exact)
    update = optim.update_in_place if way == "in place" else optim.update
    for step, grads in enumerate(gradients()):
        if rate is not None:
            update = bind(optim, {"lr": rate(step)}).update
        with foreach.unrolled() if way == "unrolled" else nullcontext():
            params, opt = update(map_state(torch.clone, grads), opt, params)
    return params, opt


def updated_by(make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Params:
    """The weights after the same updates by an optimiser with torch's interface."""
    params = start()
    optimizer = make_optimizer(list(params.values()))
    for grads in gradients():
        for name, p in params.items():
            p.grad = grads[name].clone()
        optimizer.step()
    return params


def farthest(ours: Params, theirs: Params) -> float:
    assert any(not torch.equal(theirs[name], p) for name, p in start().items()), "otherwise this proves nothing"
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


OF_TORCH: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "rmsprop": ({}, lambda ps: torch.optim.RMSprop(ps, lr=1e-3)),
    "rmsprop momentum centered decay": (
        {"alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1},
        lambda ps: torch.optim.RMSprop(ps, lr=1e-3, alpha=0.9, momentum=0.8, centered=True, weight_decay=0.1),
    ),
    "adagrad": ({}, lambda ps: torch.optim.Adagrad(ps, lr=1e-2)),
    "adagrad started decay": (
        {"lr_decay": 0.01, "initial_accumulator": 0.1, "weight_decay": 0.1},
        lambda ps: torch.optim.Adagrad(ps, lr=1e-2, lr_decay=0.01, initial_accumulator_value=0.1, weight_decay=0.1),
    ),
    "radam": ({"lr": 1e-3}, lambda ps: torch.optim.RAdam(ps, lr=1e-3)),
    "radam decay": ({"lr": 1e-3, "weight_decay": 0.1}, lambda ps: torch.optim.RAdam(ps, lr=1e-3, weight_decay=0.1)),
    "radam decoupled": (
        {"lr": 1e-3, "weight_decay": 0.1, "decoupled_decay": True, "beta2": 0.9, "beta1": 0.5},
        lambda ps: torch.optim.RAdam(ps, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True, betas=(0.5, 0.9)),
    ),
    "radam never rectified": (
        {"lr": 1e-3, "beta2": 0.6},
        lambda ps: torch.optim.RAdam(ps, lr=1e-3, betas=(0.9, 0.6)),
    ),
    "nadam": ({"lr": 1e-3}, lambda ps: torch.optim.NAdam(ps, lr=1e-3)),
    "nadam decay": ({"lr": 1e-3, "weight_decay": 0.1}, lambda ps: torch.optim.NAdam(ps, lr=1e-3, weight_decay=0.1)),
    "nadam decoupled": (
        {"lr": 1e-3, "weight_decay": 0.1, "decoupled_decay": True, "momentum_decay": 0.1},
        lambda ps: torch.optim.NAdam(ps, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True, momentum_decay=0.1),
    ),
}
WAYS = ["pure", "in place", "tensors", "unrolled"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", OF_TORCH)
def test_200_updates_equal_those_of_torch(case: str, way: str) -> None:
    """To 1e-10, as torch keeps NAdam's product of momenta in float32."""
    changes, theirs = OF_TORCH[case]
    assert farthest(updated(make(case.partition(" ")[0], **changes), way)[0], updated_by(theirs)) < 1e-10


def test_centered_rmsprop_of_a_constant_gradient_has_no_nan() -> None:
    """Its variance is 0, and rounding makes the difference of the averages negative, whose root torch takes."""
    optim, params = make("rmsprop", centered=True, alpha=0.3), {"w": torch.zeros(100)}
    opt, grads = optim.init(params), {"w": torch.linspace(0.1, 3.0, 100)}
    theirs = torch.optim.RMSprop([w := torch.zeros(100)], alpha=0.3, centered=True)
    for _ in range(40):
        params, opt = optim.update(grads, opt, params)
        w.grad = grads["w"].clone()
        theirs.step()
    assert params["w"].isfinite().all()
    assert w.isnan().any(), "otherwise this test proves nothing"


@pytest.mark.parametrize("name", ["rmsprop", "adagrad", "radam", "nadam"])
def test_an_update_in_place_is_the_same_bit_for_bit(name: str) -> None:
    optim = make(name, weight_decay=0.1)
    for a, b in zip(leaves(updated(optim)), leaves(updated(optim, "in place")), strict=True):
        assert torch.equal(a, b)
