"""The float hyperparameters of a run: every value depends only on the step, as a number or as a tensor."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mltricks.hyper import CHUNK, Hypers
from mltricks.optim.sgd import SGD
from mltricks.technique import bind, floats_of

TOTAL = 2 * CHUNK + 40
OPTIM = SGD(lr=0.1, weight_decay=5e-4, no_decay=[], groups=None, momentum=0.9, nesterov=True)


def hypers(device: torch.device | None = None, driven: bool = True) -> Hypers:
    constants = {"optim": floats_of(OPTIM), "mixup": {"alpha": 0.2}, "ema": {"decay": 0.99}}
    drives: dict[Any, Any] = {("optim", "lr"): lambda p: 0.1 * math.cos(p), ("mixup", "alpha"): lambda p: 0.1 + p * p}
    return Hypers(constants, drives if driven else {}, TOTAL, device)


BORDERS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, TOTAL - 1]


@pytest.mark.parametrize("step", BORDERS)
def test_tensors_are_the_numbers_in_float32(step: int) -> None:
    numbers, tensors = hypers().at(step), hypers(torch.device("cpu")).at(step)
    complete = {"optim": {**floats_of(OPTIM), **numbers["optim"]}, "mixup": numbers["mixup"], "ema": {"decay": 0.99}}
    for owner, values in complete.items():
        assert tensors[owner].keys() == values.keys()
        for name, value in values.items():
            assert tensors[owner][name].shape == ()
            assert torch.equal(tensors[owner][name], torch.tensor(value, dtype=torch.float32))
    assert numbers["progress"] == step / TOTAL
    assert torch.equal(tensors["progress"], torch.tensor(step / TOTAL, dtype=torch.float32))


def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    """Otherwise a resumed run would train with other values than the uninterrupted one."""
    through, fresh = hypers(torch.device("cpu")), [hypers(torch.device("cpu")) for _ in BORDERS]
    seen = {step: through.at(step) for step in range(TOTAL)}
    for step, other in zip(reversed(BORDERS), fresh, strict=True):
        for a, b in ((seen[step], other.at(step)), (seen[step], through.at(step))):
            assert torch.equal(a["optim"]["lr"], b["optim"]["lr"])
            assert torch.equal(a["mixup"]["alpha"], b["mixup"]["alpha"])
            assert torch.equal(a["progress"], b["progress"])


@pytest.mark.parametrize("device", [None, torch.device("cpu")], ids=["numbers", "tensors"])
def test_values_of_a_step_are_not_changed_by_the_next_step(device: torch.device | None) -> None:
    p = hypers(device)
    first = p.at(0)
    kept = float(first["optim"]["lr"]), float(first["mixup"]["alpha"]), float(first["progress"])
    p.at(CHUNK + 7)
    assert (float(first["optim"]["lr"]), float(first["mixup"]["alpha"]), float(first["progress"])) == kept


@pytest.mark.parametrize("driven", [True, False])
def test_bound_numbers_are_those_of_the_plan(driven: bool) -> None:
    """The eager engine leaves out floats that are not scheduled: the technique or optimiser has them already."""
    p, step = hypers(driven=driven), 77
    rule = bind(OPTIM, p.at(step)["optim"])
    lr = p.values(step)[("optim", "lr")] if driven else 0.1
    assert floats_of(rule) == {"lr": lr, "weight_decay": 5e-4, "momentum": 0.9}
    assert rule.nesterov
    assert OPTIM.lr == 0.1


def test_nothing_is_rebuilt_without_schedules() -> None:
    hyper = hypers(driven=False).at(3)
    assert hyper == {"optim": {}, "progress": 3 / TOTAL}
    assert bind(OPTIM, hyper["optim"]) is OPTIM
