"""The contract of every technique with a YAML: it learns, resumes, traces, stacks, and can be switched off."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contract import (
    advance,
    assert_resumes_exactly,
    assert_same,
    largest_difference,
    make,
    needs,
    stacked_as,
    statement,
    techniques,
    untraced,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mltricks.stack.run import StackedRun

STEPS_PER_EPOCH = 20


@pytest.mark.parametrize("name", techniques())
def test_loss_falls(name: str, teacher: Callable[..., Path]) -> None:
    run = make(stacked_as((name,)), *needs((name,), teacher))
    losses = advance(run, 60)
    assert all(math.isfinite(loss) for loss in losses)
    if statement(name).loss_falls:
        assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize("stop", [3, STEPS_PER_EPOCH], ids=["within an epoch", "between epochs"])
@pytest.mark.parametrize("name", techniques())
def test_a_resumed_run_equals_the_uninterrupted_one(
    name: str, stop: int, teacher: Callable[..., Path], tmp_path: Path
) -> None:
    overrides = [stacked_as((name,)), *needs((name,), teacher), "optim=sgd", "optim.lr=0.01"]
    assert_resumes_exactly(overrides, stop, stop + 4, tmp_path / "last.pt")


@pytest.mark.parametrize("name", techniques())
def test_traced_equals_eager(name: str, teacher: Callable[..., Path]) -> None:
    overrides = [stacked_as((name,)), *needs((name,), teacher), "optim=sgd", "optim.lr=0.01"]
    if untraced(name):
        with pytest.raises(ValueError, match=f"records the step as a graph, which technique={name} cannot be part of"):
            make(*overrides, "engine=traced")
        return
    eager, traced = make(*overrides), make(*overrides, "engine=traced")
    assert advance(eager, 5) == pytest.approx(advance(traced, 5), rel=1e-5)
    assert largest_difference(eager.state, traced.state) < 1e-5


@pytest.mark.parametrize("name", techniques())
def test_a_row_of_a_stack_equals_the_run_alone(name: str, teacher: Callable[..., Path]) -> None:
    shared = [stacked_as((name,)), *needs((name,), teacher), "optim=sgd"]
    overrides = [[*shared, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))]
    if untraced(name):
        with pytest.raises(ValueError, match=f"technique={name} cannot be traced"):
            StackedRun([make(*o) for o in overrides])
        return
    stacked = StackedRun([make(*o) for o in overrides])
    losses = stacked.advance(5)["loss"]
    for k, o in enumerate(overrides):
        alone = make(*o)
        assert losses[k].tolist() == pytest.approx(advance(alone, 5), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


class Watch(TorchDispatchMode):
    """Raises an error if an operation makes the host wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read back inside the step"
        assert func not in (torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default), (
            "a shape depends on data"
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", techniques())
def test_step_never_waits_for_the_device(name: str, teacher: Callable[..., Path]) -> None:
    run = make(stacked_as((name,)), *needs((name,), teacher))
    batch, hyper = next(run.source.stream(0)), run.hypers.at(0)
    with Watch():
        _, metrics = run.step(run.state, batch, hyper)
    assert torch.isfinite(metrics["loss"])


@pytest.mark.parametrize("name", [name for name in techniques() if statement(name).off is not None])
def test_a_technique_that_is_off_changes_nothing(name: str, teacher: Callable[..., Path]) -> None:
    stated = statement(name)
    shared = [o for o in stated.needs if not o.startswith(("technique.", "data.unlabeled"))]
    off = make(stacked_as((name,)), *needs((name,), teacher), *stated.off)
    baseline = make(*shared)
    assert advance(off, 6) == advance(baseline, 6)
    for key in ("params", "opt"):
        assert_same(off.state[key], baseline.state[key])
