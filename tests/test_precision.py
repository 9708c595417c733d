"""Half precision: loss scaling compared with torch's scaler, skipped steps, and weights kept in single precision."""

from __future__ import annotations

import pytest
import torch
from bare import context, images, params_of, sgd, small_net, train
from contract import advance, assert_same, make
from torch import Tensor

import mltricks
from mltricks.batch import Batch
from mltricks.config.compose import plain
from mltricks.objectives.classify import Classify
from mltricks.state import leaves
from mltricks.step import gradient
from mltricks.technique import Aux, Ctx, Params
from mltricks.techniques.accumulate import Accumulate
from mltricks.techniques.clip_norm import ClipNorm
from mltricks.techniques.loss_scale import LossScale, all_finite
from mltricks.techniques.sam import Sam


def scaler(init_scale: float = 1024.0, growth_interval: int = 3) -> LossScale:
    return LossScale(init_scale=init_scale, growth_factor=2.0, backoff_factor=0.5, growth_interval=growth_interval)


@pytest.mark.parametrize("init_scale", [1024.0, 2.0**126])
def test_scales_equal_those_of_torchs_scaler(init_scale: float) -> None:
    finite = 7 * [True] + [False, True, False, False] + 5 * [True] + [False] + 9 * [True]
    reference = torch.amp.GradScaler("cpu", init_scale=init_scale, growth_interval=3)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    _, own = scaler(init_scale).setup(torch.nn.Identity(), {}, {}, 0)
    for good in finite:
        optimizer.zero_grad()
        reference.scale(weight.sum() * 0.5**126).backward()
        weight.grad.mul_(1.0 if good else torch.inf)
        reference.step(optimizer)
        reference.update()
        own = scaler(init_scale).next_scale(own, torch.tensor(good))
        assert float(own["scale"]) == reference.get_scale()


def test_gradient_is_unscaled_and_the_loss_metric_was_never_scaled() -> None:
    module, batch = small_net(), images(8)
    plain_grads, plain_aux = gradient(Classify())(params_of(module), batch, context(module))
    ctx = context(module, {"loss_scale": {"scale": torch.tensor(1024.0)}}).scope("loss_scale")
    grads, aux = scaler().grads(gradient(Classify()))(params_of(module), batch, ctx)
    assert_same(grads, plain_grads)  # a power of two changes only the exponent
    assert torch.equal(aux["metrics"]["loss"], plain_aux["metrics"]["loss"])
    assert bool(aux["finite"])
    assert ctx.grad_scale is None


def test_a_single_element_that_is_not_finite_is_detected() -> None:
    good = [torch.full((3,), 3e38), torch.zeros(2, 2)]
    assert bool(all_finite(good))
    for bad in (torch.inf, -torch.inf, torch.nan):
        assert not bool(all_finite([good[0], torch.tensor([[0.0, 0.0], [0.0, bad]])]))


def test_overflow_leaves_the_weights_and_halves_the_scale_until_it_fits() -> None:
    run = make("precision=fp16", "technique.loss_scale.init_scale=1.0e12")
    before = {key: {**run.state[key]} for key in ("params", "opt")}
    losses, scales = [], []
    for step in range(40):
        losses += advance(run, 1, start=step)
        scales.append(float(run.state["own"]["loss_scale"]["scale"]))
        if step == 0:
            assert_same(run.state["params"], before["params"])
            assert_same(run.state["opt"], before["opt"])
    assert scales[:3] == pytest.approx([5e11, 2.5e11, 1.25e11])
    assert scales[-1] == scales[-5] > 1, "the scale falls until the gradient is finite"
    assert all(torch.isfinite(torch.tensor(losses)))
    assert sum(losses[-5:]) < sum(losses[:5])
    assert int(run.state["step"]) == 40


def rare(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
    """Cross-entropy, and a slope that grows with the largest pixel of the batch."""
    value, aux = Classify()(params, batch, ctx)
    return value + batch["x"].amax() * 1e6 * params["5.bias"].sum(), aux


@pytest.mark.parametrize("order", [("accumulate", "loss_scale"), ("loss_scale", "accumulate"), ("sam", "loss_scale")])
def test_one_overflow_among_several_passes_skips_the_step(order: tuple[str, ...]) -> None:
    scale = 2.0**110
    techniques = {
        "accumulate": Accumulate(num_micro=4),
        "sam": Sam(rho=0.1, adaptive=False),
        "loss_scale": scaler(scale),
    }
    techniques = {name: techniques[name] for name in order}
    before = params_of(small_net())
    calm = images(8)
    calm["x"] *= 1e-6
    state, _ = train(small_net(), [calm], sgd(0.1), rare, **techniques)[-1]
    assert not torch.equal(state["params"]["5.bias"], before["5.bias"])
    wild = {**calm, "x": calm["x"].clone()}
    wild["x"][0] = 1e3  # only in the first micro-batch
    state, _ = train(small_net(), [wild], sgd(0.1), rare, **techniques)[-1]
    assert_same(state["params"], before)
    assert float(state["own"]["loss_scale"]["scale"]) == scale / 2


def test_an_overflow_only_at_the_perturbed_weights_skips_the_step() -> None:
    def steep(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        value, aux = Classify()(params, batch, ctx)
        return value + 1e-3 * params["5.bias"].square().sum(), aux

    for rho, skipped in ((1.0, False), (1e30, True)):
        techniques = {"sam": Sam(rho=rho, adaptive=False), "loss_scale": scaler(2.0**60)}
        state, _ = train(small_net(), [images(8)], sgd(0.1), steep, **techniques)[-1]
        assert torch.equal(state["params"]["5.bias"], params_of(small_net())["5.bias"]) == skipped
        assert float(state["own"]["loss_scale"]["scale"]) == (2.0**59 if skipped else 2.0**60)


def test_clipping_is_the_same_on_either_side_of_the_scale() -> None:
    batches = [images(16, seed) for seed in range(3)]
    clip = ClipNorm(max_norm=0.1)
    outside, inside = (
        train(small_net(), batches, sgd(0.5), **techniques)
        for techniques in ({"clip": clip, "loss_scale": scaler()}, {"loss_scale": scaler(), "clip": clip})
    )
    for (a, metrics), (b, others) in zip(outside, inside, strict=True):
        torch.testing.assert_close(a["params"], b["params"])
        torch.testing.assert_close(metrics["grad_norm"], others["grad_norm"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_is_close_to_single_precision_with_single_precision_weights(precision: str) -> None:
    half, full = make(f"precision={precision}"), make()
    halves, fulls = advance(half, 60), advance(full, 60)
    assert halves != fulls, "half precision gives other numbers"
    assert sum(halves[-20:]) == pytest.approx(sum(fulls[-20:]), rel=0.05)
    for part in ("params", "opt", "buffers"):
        assert {t.dtype for t in leaves(half.state[part])} <= {torch.float32}
    x = half.data.val.select(torch.arange(8)).x.permute(0, 3, 1, 2)
    assert half.predict(half.state, x).dtype == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_traced_equals_eager(precision: str) -> None:
    overrides = (f"precision={precision}", "technique=[sam,clip_norm]", "optim=sgd", "optim.lr=0.01")
    assert advance(make(*overrides), 5) == pytest.approx(advance(make(*overrides, "engine=traced"), 5), rel=1e-3)


def test_fp16_adds_loss_scale_as_the_last_technique() -> None:
    cfg = plain(mltricks.compose(["regularizer=l2", "technique=[sam,ema]", "precision=fp16"]))
    assert list(cfg["technique"]) == ["l2", "sam", "ema", "loss_scale"]
    assert cfg["precision"] == {"dtype": "fp16", "tf32": "auto"}
    assert cfg["technique"]["loss_scale"]["init_scale"] == 65536.0
