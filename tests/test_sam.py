"""Sharpness-aware minimisation compared with closed forms and with a loop in plain torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, sgd, small_net, train
from contract import advance, assert_same, make
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.step import gradient
from mltricks.technique import Aux, Ctx, Params
from mltricks.techniques.accumulate import Accumulate
from mltricks.techniques.sam import ASAM_ETA, Sam

CURVATURE = torch.tensor([[1.0, 10.0], [0.5, 3.0]])


def quadratic(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
    """Half w^T A w with a diagonal A: the gradient at w is A w."""
    loss = 0.5 * (CURVATURE * params["w"].square()).sum() + params["b"].square().sum()
    return loss, {"metrics": {"loss": loss}}


POINT = {"w": torch.tensor([[1.0, -2.0], [0.0, 0.3]]), "b": torch.tensor([2.0])}


def test_gradient_is_that_of_the_perturbed_quadratic() -> None:
    grads, aux = Sam(rho=0.3, adaptive=False).grads(gradient(quadratic))(POINT, {}, context(nn.Identity()))
    at_point = {"w": CURVATURE * POINT["w"], "b": 2 * POINT["b"]}
    norm = torch.cat([g.flatten() for g in at_point.values()]).norm()
    torch.testing.assert_close(grads["w"], CURVATURE * (POINT["w"] + 0.3 * at_point["w"] / norm))
    torch.testing.assert_close(grads["b"], 2 * (POINT["b"] + 0.3 * at_point["b"] / norm))
    torch.testing.assert_close(aux["metrics"]["loss"], quadratic(POINT, {}, context(nn.Identity()))[0])


def test_adaptive_gradient_is_that_of_the_rescaled_neighbourhood() -> None:
    grads, _ = Sam(rho=0.3, adaptive=True).grads(gradient(quadratic))(POINT, {}, context(nn.Identity()))
    size = {"w": POINT["w"].abs() + ASAM_ETA, "b": torch.ones(1)}
    at_point = {"w": CURVATURE * POINT["w"], "b": 2 * POINT["b"]}
    norm = torch.cat([(size[n] * g).flatten() for n, g in at_point.items()]).norm()
    moved = {n: POINT[n] + 0.3 * size[n] ** 2 * g / norm for n, g in at_point.items()}
    torch.testing.assert_close(grads["w"], CURVATURE * moved["w"])
    torch.testing.assert_close(grads["b"], 2 * moved["b"])


def test_a_zero_gradient_perturbs_nothing() -> None:
    flat = {"w": torch.zeros(2, 2), "b": torch.zeros(1)}
    grads, _ = Sam(rho=0.3, adaptive=False).grads(gradient(quadratic))(flat, {}, context(nn.Identity()))
    assert_same(grads, flat)


def reference_sam(module: nn.Module, batches: list[Batch], lr: float, rho: float) -> None:
    """SAM as a loop over a module, with the statistics of batch norm taken from the first pass."""
    for batch in batches:
        weights = list(module.parameters())
        first = torch.autograd.grad(F.cross_entropy(module(batch["x"]), batch["y"]), weights)
        kept = {name: b.clone() for name, b in module.named_buffers()}
        norm = torch.sqrt(sum(g.square().sum() for g in first))
        before = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w, g in zip(weights, first, strict=True):
                w += rho * g / norm
        second = torch.autograd.grad(F.cross_entropy(module(batch["x"]), batch["y"]), weights)
        with torch.no_grad():
            for w, b, g in zip(weights, before, second, strict=True):
                w.copy_(b - lr * g)
            for name, b in module.named_buffers():
                b.copy_(kept[name])


def test_training_with_batch_norm_is_that_of_the_plain_loop() -> None:
    batches = [images(16, seed) for seed in range(4)]
    state, _ = train(small_net(norm=True), batches, sgd(0.1), sam=Sam(rho=0.2, adaptive=False))[-1]
    module = small_net(norm=True)
    reference_sam(module, batches, lr=0.1, rho=0.2)
    for name, tensor in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
        torch.testing.assert_close({**state["params"], **state["buffers"]}[name], tensor.detach(), rtol=1e-4, atol=1e-6)


def test_radius_zero_equals_the_run_without_sam() -> None:
    off, baseline = make("technique=sam", "technique.sam.rho=0.0"), make()
    assert advance(off, 5) == advance(baseline, 5)
    assert_same(off.state["params"], baseline.state["params"])


def test_accumulate_after_sam_changes_nothing_and_before_it_perturbs_per_micro_batch() -> None:
    sam, accumulate, batches = Sam(rho=0.5, adaptive=False), Accumulate(num_micro=4), [images(16)]
    alone, behind, front = (
        train(small_net(), batches, sgd(0.1), **techniques)[-1][0]["params"]["0.weight"]
        for techniques in ({"sam": sam}, {"sam": sam, "accumulate": accumulate}, {"accumulate": accumulate, "sam": sam})
    )
    torch.testing.assert_close(alone, behind)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(alone, front)
