"""Techniques on gradients and Lookahead, compared with torch, timm, pytorch_optimizer and closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bare import context, images, params_of, sgd, small_net, train
from contract import make
from torch import Tensor, nn

from mltricks.compatibility.options import check_prediction
from mltricks.objectives.classify import Classify
from mltricks.step import gradient
from mltricks.technique import Params, Technique
from mltricks.techniques.adaptive_clip import AdaptiveClip
from mltricks.techniques.centralize import Centralize
from mltricks.techniques.clip_value import ClipValue
from mltricks.techniques.ema import Ema
from mltricks.techniques.gradient_noise import GradientNoise
from mltricks.techniques.lookahead import Lookahead


def both(technique: Technique, module: nn.Module, scale: float | None = None, step: int = 0) -> tuple[Params, Params]:
    """The gradient without a technique, and with it."""
    ctx = replace(context(module), step=torch.tensor(step))
    ctx.grad_scale = None if scale is None else torch.tensor(scale)
    base = gradient(Classify())
    params, batch = params_of(module), images(8)
    return base(params, batch, ctx)[0], technique.grads(base)(params, batch, ctx)[0]


def with_grads(module: nn.Module, grads: Params) -> list[nn.Parameter]:
    """The module's parameters, holding these gradients."""
    for name, p in module.named_parameters():
        p.grad = grads[name].clone()
    return list(module.parameters())


def assert_equal(found: Params, module: nn.Module) -> None:
    for name, p in module.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-6, atol=1e-8)


def test_clip_value_equals_torchs() -> None:
    module = small_net(norm=True)
    plain, clipped = both(ClipValue(0.01), module)
    nn.utils.clip_grad_value_(with_grads(module, plain), 0.01)
    assert_equal(clipped, module)
    assert max(float(g.abs().max()) for g in plain.values()) > 0.01


def test_adaptive_clip_equals_timms_and_pytorch_optimizers() -> None:
    from pytorch_optimizer.optimizer.agc import agc
    from timm.utils.agc import adaptive_clip_grad

    module = small_net(norm=True)
    plain, clipped = both(AdaptiveClip(max_ratio=0.02, eps=1e-3, exclude=[]), module)
    adaptive_clip_grad(with_grads(module, plain), clip_factor=0.02, eps=1e-3)
    assert_equal(clipped, module)
    for name, p in params_of(module).items():
        torch.testing.assert_close(clipped[name], agc(p, plain[name], 1e-3, 0.02), rtol=1e-6, atol=1e-8)
    assert any(not torch.equal(clipped[name], plain[name]) for name in plain)


def test_adaptive_clip_leaves_out_the_last_linear_layer_or_what_is_named() -> None:
    module = small_net()
    for exclude, free in (
        (None, {"5.weight", "5.bias"}),
        (["0.*", "*.bias"], {"0.weight", "0.bias", "3.bias", "5.bias"}),
    ):
        plain, clipped = both(AdaptiveClip(max_ratio=1e-6, eps=1e-3, exclude=exclude), module)
        assert {name for name in plain if torch.equal(plain[name], clipped[name])} == free
    with pytest.raises(ValueError, match=r"no parameter is called 9\.\*.*Parameters: 0\.weight"):
        AdaptiveClip(0.01, 1e-3, ["9.*"]).setup(module, params_of(module), images(2), 0)
    head = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="all parameters are excluded"):
        AdaptiveClip(0.01, 1e-3, None).setup(head, params_of(head), images(2), 0)


@pytest.mark.parametrize("layers", ["all", "conv"])
def test_centralize_equals_pytorch_optimizers(layers: str) -> None:
    from pytorch_optimizer.optimizer.gradient_centralization import centralize_gradient

    module = small_net(norm=True)
    plain, centred = both(Centralize(1.0, layers), module)  # type: ignore[arg-type]
    for name, g in plain.items():
        expected = g.clone()
        centralize_gradient(expected, gc_conv_only=layers == "conv")
        torch.testing.assert_close(centred[name], expected, rtol=1e-6, atol=1e-8)
    assert float(centred["0.weight"].mean((1, 2, 3)).abs().max()) < 1e-7


def test_centralize_spares_units_of_one_weight() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Linear(1, 4))
    plain, centred = both(Centralize(1.0, "all"), module)
    assert torch.equal(centred["2.weight"], plain["2.weight"])
    assert not torch.equal(centred["1.weight"], plain["1.weight"])


def test_centralize_refuses_a_model_without_such_weights() -> None:
    for layers, module, said in (
        ("conv", nn.Linear(2, 2), "no convolution"),
        ("all", nn.BatchNorm1d(2), "two or more"),
        ("all", nn.Linear(1, 2), "several numbers a unit"),
    ):
        with pytest.raises(ValueError, match=said):
            Centralize(1.0, layers).setup(module, params_of(module), images(2), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [0, 99])
def test_gradient_noise_has_the_variance_of_its_step(step: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 500), nn.Linear(500, 4))
    plain, noisy = both(GradientNoise(eta=0.3, decay=0.55), module, step=step)
    noise = torch.cat([(noisy[name] - plain[name]).flatten() for name in plain])
    variance = 0.3 / (1 + step) ** 0.55
    assert float(noise.var()) == pytest.approx(variance, rel=4 * (2 / len(noise)) ** 0.5)
    assert abs(float(noise.mean())) < 4 * (variance / len(noise)) ** 0.5


@pytest.mark.parametrize(
    "technique",
    [ClipValue(0.01), AdaptiveClip(0.02, 1e-3, []), GradientNoise(0.3, 0.55)],
    ids=lambda t: type(t).__name__,
)
def test_with_loss_scaling_the_unscaled_gradient_counts(technique: Technique) -> None:
    module = small_net()
    found = []
    for scale in (None, 64.0):
        torch.manual_seed(1)
        found.append(both(technique, module, scale)[1])
    for name, g in found[0].items():
        torch.testing.assert_close(found[1][name] / 64, g, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lookahead_equals_pytorch_optimizers(momentum: float) -> None:
    from pytorch_optimizer.optimizer.lookahead import Lookahead as Reference

    batches = [images(16, seed) for seed in range(7)]
    history = train(small_net(), batches, sgd(0.1, momentum), lookahead=Lookahead(k=3, alpha=0.6, statistics_batches=0))
    module = small_net()
    optimizer = Reference(torch.optim.SGD(module.parameters(), 0.1, momentum), k=3, alpha=0.6, pullback_momentum="none")
    for (state, _), batch in zip(history, batches, strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(batch["x"]), batch["y"]).backward()
        optimizer.step()
        for name, p in module.named_parameters():
            torch.testing.assert_close(state["params"][name], p.detach(), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(state["own"]["lookahead"][name], slow_of(optimizer, p), rtol=1e-5, atol=1e-6)


def slow_of(optimizer: object, p: Tensor) -> Tensor:
    return optimizer.state[p]["slow_params"]  # type: ignore[attr-defined]


def test_a_run_that_is_too_short_for_lookahead_says_so() -> None:
    (line,) = make("technique=lookahead", "max_steps=4").messages
    assert line.startswith("note: technique.lookahead.k=5: in a run of 4 updates the weights that predict stay")
    assert not make("technique=lookahead", "max_steps=5").messages


def test_lookahead_predicts_with_the_slow_weights() -> None:
    run = make("technique=lookahead", "technique.lookahead.k=3", "optim=sgd")
    initial = {name: p.clone() for name, p in run.state["params"].items()}
    x = next(run.data.val.batches([torch.arange(8)]))["x"]
    before = run.predict(run.state, x)
    batch = next(run.source.stream(0))
    run.state, _ = run.step(run.state, batch, run.hypers.at(0))
    assert not torch.equal(run.state["params"]["head.weight"], initial["head.weight"])
    torch.testing.assert_close(run.predict(run.state, x), before)  # the first synchronisation is still to come


def test_two_that_predict_with_weights_of_their_own_are_refused() -> None:
    techniques = {"ema": Ema(decay=0.9, warmup=False), "lookahead": Lookahead(k=5, alpha=0.8, statistics_batches=0)}
    with pytest.raises(ValueError, match="technique=ema and technique=lookahead both predict"):
        check_prediction(sgd(0.1), techniques)
