"""The step itself: order, purity, the guard against overflow, and the model as a function."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from contract import advance, assert_same, make
from torch import nn

from mltricks.build import compose_step
from mltricks.config.values import Positive, float_fields
from mltricks.engine import Traced
from mltricks.functional_model import FunctionalModel
from mltricks.state import fold, map_state
from mltricks.technique import Technique, bind, floats_of


@dataclass(frozen=True)
class Trail(Technique):
    """Appends its name to a list whenever one of its verbs runs."""

    name: str
    trail: list

    def batch(self, batch, ctx):
        self.trail.append(f"batch {self.name}")
        return batch

    def loss(self, inner):
        def loss(params, batch, ctx):
            self.trail.append(f"loss {self.name}")
            return inner(params, batch, ctx)

        return loss

    def grads(self, inner):
        def grads(params, batch, ctx):
            self.trail.append(f"grads {self.name}")
            return inner(params, batch, ctx)

        return grads

    def after(self, params, ctx, aux):
        self.trail.append(f"after {self.name}")
        return params, ctx.own


def test_a_call_passes_through_the_first_technique_first() -> None:
    trail: list[str] = []
    run = make()
    run.techniques = {"a": Trail("a", trail), "b": Trail("b", trail)}
    run.state["own"] = {"a": {}, "b": {}}
    run.step = compose_step(run)
    advance(run, 1)
    assert trail == ["batch a", "batch b", "grads a", "grads b", "loss a", "loss b", "after a", "after b"]


def test_without_donation_the_given_state_is_untouched() -> None:
    run = make("technique=[mixup,ema]")
    run.engine = Traced()
    step, batch, hyper = compose_step(run), next(run.source.stream(0)), replace(run.hypers, device=run.device).at(0)
    before = map_state(torch.clone, run.state)
    step(run.state, batch, hyper)
    assert_same(before, run.state)


def test_a_step_equals_the_gradient_step_written_by_hand() -> None:
    run = make("optim=sgd", "optim.lr=0.1", "optim.momentum=0.0")
    module, batch = run.model.module, next(run.source.stream(0))
    x = (batch["x"].float() - run.data.info.input.mean) / run.data.info.input.std
    loss = F.cross_entropy(module(x), batch["y"])
    grads = torch.autograd.grad(loss, list(module.parameters()))
    expected = {n: p.detach() - 0.1 * g for (n, p), g in zip(module.named_parameters(), grads, strict=True)}
    assert advance(run, 1)[0] == pytest.approx(loss.item(), rel=1e-5)
    for name, p in run.state["params"].items():
        torch.testing.assert_close(p, expected[name])


@dataclass(frozen=True)
class Overflow(Technique):
    """Marks every gradient as not finite."""

    def grads(self, inner):
        def grads(params, batch, ctx):
            found, aux = inner(params, batch, ctx)
            return found, {**aux, "finite": torch.zeros_like(batch["y"][0], dtype=torch.bool)}

        return grads


def test_an_update_that_is_not_finite_changes_no_weights_or_optimiser_tensors() -> None:
    run = make("optim=adamw")
    run.techniques, run.state["own"] = {"overflow": Overflow()}, {"overflow": {}}
    run.step = compose_step(run)
    before = map_state(torch.clone, {"params": run.state["params"], "opt": run.state["opt"]})
    advance(run, 2)
    assert_same(before, {"params": run.state["params"], "opt": run.state["opt"]})
    assert int(run.state["step"]) == 2


class Tied(nn.Module):
    """Two layers with one weight, a buffer that counts calls, and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second.weight = self.first.weight
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.second(self.norm(self.first(x)))


@pytest.mark.parametrize("train", [True, False])
def test_functional_model_equals_functional_call(train: bool) -> None:
    module, x = Tied(), torch.randn(6, 4)
    params = {n: torch.randn_like(p) for n, p in module.named_parameters()}
    buffers = {n: b.clone() for n, b in module.named_buffers()}
    mutable = {n: b.clone() for n, b in buffers.items()}
    module.train(train)
    expected = torch.func.functional_call(module, (params, mutable), (x,), tie_weights=True)
    before = {n: p.clone() for n, p in module.named_parameters()}
    output, new, _ = FunctionalModel(module)(params, buffers, x, train)
    torch.testing.assert_close(output, expected)
    if train:
        assert_same(new, mutable)
        assert float(buffers["calls"]) == 0
    assert_same(before, dict(module.named_parameters()))


def test_capture_gives_input_and_output_of_a_module() -> None:
    module, x = Tied(), torch.randn(6, 4)
    params, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    output, _, captured = FunctionalModel(module)(params, buffers, x, False, ["norm", "second"])
    assert torch.equal(captured["second"][1], output)
    assert torch.equal(captured["norm"][1], captured["second"][0])
    assert not module.second._forward_hooks


@dataclass(frozen=True)
class Knobs(Technique):
    rate: Positive
    count: int


@dataclass(frozen=True)
class Limited(Technique):
    limit: Positive | None
    names: str | float


def test_an_optional_float_is_a_leaf_if_it_is_a_number() -> None:
    assert list(float_fields(Limited)) == ["limit"], "schedules, stacks and steps use this list"
    assert (floats_of(Limited(0.5, "a")), floats_of(Limited(None, "a"))) == ({"limit": 0.5}, {})


def test_only_floats_are_leaves_and_binding_skips_the_check() -> None:
    knobs = Knobs(rate=0.5, count=3)
    assert floats_of(knobs) == {"rate": 0.5}
    bound = bind(knobs, {"rate": torch.tensor(0.25)})
    assert (float(bound.rate), bound.count, knobs.rate) == (0.25, 3, 0.5)
    with pytest.raises(ValueError, match="rate"):
        Knobs(rate=-1.0, count=3)


def test_seeds_do_not_collide() -> None:
    seeds = {fold(seed, purpose, step) for seed in range(8) for purpose in range(4) for step in range(64)}
    assert len(seeds) == 8 * 4 * 64
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_raw_techniques_behind_float_ones_run_on_normalised_images() -> None:
    seen: list[torch.dtype] = []

    @dataclass(frozen=True)
    class Look(Technique):
        on_raw = True

        def batch(self, batch, ctx):
            seen.append(batch["x"].dtype)
            return batch

    run = make("technique=mixup")
    mixup = run.techniques["mixup"]
    run.techniques = {"before": Look(), "mixup": mixup, "behind": Look()}
    run.state["own"] = {name: {} for name in run.techniques}
    run.step = compose_step(run)
    advance(run, 1)
    assert seen == [torch.uint8, torch.float32]
