"""ghost_batch_norm, frozen_bn_scale and squeeze_excite: their arithmetic on models of ours, torchvision and timm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, sgd, small_net, train
from contract import advance, make
from test_layer_switches import model_of
from torch import Tensor, nn

from mltricks.functional.ghost_norm import GhostBatchNorm as Ghost
from mltricks.functional.ghost_norm import GhostBatchNormAct, ghost_batch_norm
from mltricks.models.residual import Residual
from mltricks.models.torchvision import create_torchvision
from mltricks.techniques.ghost_batch_norm import GhostBatchNorm
from mltricks.techniques.squeeze_excite import NAMES, SqueezeExcite

CIFAR = (3, 32, 32)


def pages_ghost_norm(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, splits: int) -> Any:
    """Page's forward in training, with running statistics for every split, and his mean of them."""
    n, c, h, w = x.shape
    mean, var = mean.repeat(splits), var.repeat(splits)
    scale, shift = weight.repeat(splits), bias.repeat(splits)
    y = F.batch_norm(x.view(-1, c * splits, h, w), mean, var, scale, shift, True, 0.1, 1e-5).view(n, c, h, w)
    return y, mean.view(splits, c).mean(0), var.view(splits, c).mean(0)


@pytest.mark.parametrize("splits", [2, 4, 8])
def test_ghosts_are_separate_batch_norms_of_strided_rows(splits: int) -> None:
    x, weight, bias = torch.randn(16, 5, 3, 3), torch.rand(5), torch.randn(5)
    running = torch.randn(5), torch.rand(5)
    y, now = ghost_batch_norm(x, running, weight, bias, splits, 0.1, 1e-5)
    assert now is not None
    parts = []
    for s in range(splits):
        norm = nn.BatchNorm2d(5)
        norm.load_state_dict(
            {"weight": weight, "bias": bias, "running_mean": running[0], "running_var": running[1]}, strict=False
        )
        torch.testing.assert_close(y[s::splits], norm(x[s::splits]))
        parts.append(norm)
    torch.testing.assert_close(now[0], torch.stack([norm.running_mean for norm in parts]).mean(0))
    torch.testing.assert_close(now[1], torch.stack([norm.running_var for norm in parts]).mean(0))
    theirs = pages_ghost_norm(x, *running, weight, bias, splits)
    for mine, their in zip((y, *now), theirs, strict=True):
        assert torch.equal(mine, their)


def test_running_statistics_over_steps_are_pages() -> None:
    """He keeps one pair a split over the whole run, and takes the mean at the end."""
    norm, mean, var = Ghost(3, 4, "key"), torch.zeros(12), torch.ones(12)
    for _ in range(5):
        x = torch.randn(8, 3, 2, 2)
        F.batch_norm(x.view(2, 12, 2, 2), mean, var, None, None, True, 0.1, 1e-5)
        norm(x)
    torch.testing.assert_close(norm.running_mean, mean.view(4, 3).mean(0))
    torch.testing.assert_close(norm.running_var, var.view(4, 3).mean(0))
    x = torch.randn(5, 3, 2, 2)
    expected = F.batch_norm(x, norm.running_mean, norm.running_var)
    torch.testing.assert_close(norm.eval()(x), expected, rtol=1e-5, atol=1e-6)


def test_storage_order_changes_nothing() -> None:
    x, norm = torch.randn(8, 3, 4, 4), Ghost(3, 2, "key")
    torch.testing.assert_close(norm(x.contiguous(memory_format=torch.channels_last)), norm(x))


def haunted(model: nn.Module, splits: int = 2, count: int = 8, shape: tuple[int, ...] = CIFAR) -> nn.Module:
    batch = images(count, shape=shape)
    GhostBatchNorm(splits=splits).setup(model, params_of(model), batch, 0)
    return model


def test_the_technique_equals_the_switch() -> None:
    x = torch.randn(8, 1, 8, 8)
    switch = model_of("resnet9 width=2 norm=ghost_batch ghost_splits=4", (1, 8, 8))
    technique = haunted(model_of("resnet9 width=2", (1, 8, 8)), 4, shape=(1, 8, 8))
    assert torch.equal(switch(x), technique(x))
    for mine, theirs in zip(switch.state_dict().items(), technique.state_dict().items(), strict=True):
        assert mine[0] == theirs[0]
        assert torch.equal(mine[1], theirs[1])


def test_every_split_of_a_torchvision_model_is_a_batch_of_its_own() -> None:
    torch.manual_seed(0)
    model = create_torchvision(CIFAR, 4, "resnet18", {}, pretrained=False, stem="small")
    alone, x = copy.deepcopy(model), torch.randn(8, *CIFAR)
    names = list(params_of(model))
    output = haunted(model)(x)
    assert list(params_of(model)) == names
    for s in range(2):
        torch.testing.assert_close(output[s::2], copy.deepcopy(alone)(x[s::2]), rtol=1e-4, atol=1e-4)


def test_timms_norm_with_activation_keeps_the_activation() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("efficientnet_lite0", num_classes=4).train()
    assert type(model.bn1).__name__ == "BatchNormAct2d"
    alone, x = copy.deepcopy(model), torch.randn(4, 3, 64, 64)
    haunted(model, count=4, shape=(3, 64, 64))
    assert isinstance(model.bn1, GhostBatchNormAct)
    mine, theirs = (net.bn1(net.conv_stem(x)) for net in (model, alone))
    halves = [copy.deepcopy(alone).bn1(alone.conv_stem(x[s::2])) for s in range(2)]
    assert not torch.allclose(mine, theirs)
    for s, half in enumerate(halves):
        torch.testing.assert_close(mine[s::2], half, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.eval()(x), model(x))


def test_frozen_scales_stay_under_decay_and_shifts_move() -> None:
    run = make("technique=frozen_bn_scale", "model=resnet9", "optim.weight_decay=0.5")
    before = {name: p.clone() for name, p in run.state["params"].items()}
    advance(run, 10)
    still = {name for name, p in run.state["params"].items() if torch.equal(p, before[name])}
    assert still == run.frozen
    assert len(still) == 8
    assert all(torch.equal(run.state["params"][name], torch.ones_like(before[name])) for name in still)


def test_technique_and_switch_freeze_the_same() -> None:
    technique = make("technique=frozen_bn_scale", "model=resnet9")
    switch = make("model=resnet9", "model.frozen_scale=true")
    assert technique.frozen == switch.frozen
    assert advance(technique, 5) == advance(switch, 5)


@pytest.mark.parametrize("start", ["half", "neutral"])
def test_gates_are_squeeze_and_excitation_of_torchvision(start: Any) -> None:
    from torchvision.ops import SqueezeExcitation

    torch.manual_seed(1)
    model = nn.Sequential(Residual(nn.Conv2d(8, 8, 3, padding=1)))
    x = torch.randn(4, 8, 5, 5)
    branch = copy.deepcopy(model[0].branch)
    params, _ = SqueezeExcite(reduction=4, start=start, layers=None).setup(model, params_of(model), {"x": x}, 0)
    assert list(params) == ["0.branch.weight", "0.branch.bias", *(f"0.branch.{name}" for name in NAMES)]
    params = {name: p + 0.1 * torch.randn_like(p) if "squeeze" in name else p for name, p in params.items()}
    theirs = SqueezeExcitation(8, 2)
    reduce, reduce_bias, expand, expand_bias = (params[f"0.branch.{name}"] for name in NAMES)
    with torch.no_grad():
        theirs.fc1.weight.copy_(reduce[:, :, None, None])
        theirs.fc2.weight.copy_(expand[:, :, None, None])
        theirs.fc1.bias.copy_(reduce_bias)
        theirs.fc2.bias.copy_(expand_bias)
    factor = 2 if start == "neutral" else 1
    torch.testing.assert_close(context(model).apply(params, x), x + factor * theirs(branch(x)))


def test_a_neutral_start_leaves_the_model_as_it_is_and_learns() -> None:
    module, batch = small_net(norm=True), images(16)
    before = copy.deepcopy(module).eval()(batch["x"])
    technique = SqueezeExcite(reduction=1, start="neutral", layers=None)
    history = train(module, [batch] * 8, sgd(0.1), squeeze_excite=technique)
    twin = small_net(norm=True)
    params, _ = technique.setup(twin, params_of(twin), batch, 0)
    torch.testing.assert_close(context(twin).apply(params, batch["x"], train=False), before)
    moved = history[-1][0]["params"]["0.squeeze_excite/expand"]
    assert moved.any()


def test_gates_stand_where_they_are_asked_for() -> None:
    run = make("technique=squeeze_excite", "model=resnet9")
    where = {name.partition(".squeeze")[0] for name in run.state["params"] if "squeeze" in name}
    assert where == {"layer1.1.branch", "layer3.1.branch"}
    run = make("technique=squeeze_excite")
    assert {n.partition(".sq")[0] for n in run.state["params"] if "squeeze" in n} == {"features.0", "features.3"}
    run = make("technique=squeeze_excite", "model=resnet9", "technique.squeeze_excite.layers=[layer2,prep.0]")
    assert {n.partition(".sq")[0] for n in run.state["params"] if "squeeze" in n} == {"layer2", "prep.0"}


@pytest.mark.parametrize(("name", "count"), [("resnet18", 8), ("convnext_tiny", 18), ("mobilenet_v2", 10)])
def test_gates_work_on_torchvisions_models(name: str, count: int) -> None:
    model = create_torchvision(CIFAR, 4, name, {}, pretrained=False, stem="imagenet")
    technique = SqueezeExcite(reduction=16, start="half", layers=None)
    params, _ = technique.setup(model, params_of(model), images(2, shape=CIFAR), 0)
    assert sum(name.endswith(NAMES[0]) for name in params) == count
    assert context(model).apply(params, torch.randn(2, *CIFAR), train=False).shape == (2, 4)


@pytest.mark.parametrize("technique", ["squeeze_excite", "ghost_batch_norm", "frozen_bn_scale"])
def test_a_loaded_run_predicts_as_the_run(technique: str, train_digits: Any, tmp_path: Any) -> None:
    import mltricks

    summary = train_digits(f"technique={technique}", "model=resnet9", "max_steps=12", folder=tmp_path)
    predictor = mltricks.load(tmp_path)
    run = make(f"technique={technique}", "model=resnet9")
    test = run.data.test
    x, y = (torch.cat([b[key] for b in test.batches(torch.arange(len(test)).split(64))]) for key in ("x", "y"))
    accuracy = float((predictor.predict(x).argmax(1) == y).float().mean())
    assert accuracy == pytest.approx(summary.test["accuracy"], abs=1e-6)


REFUSED = {
    "ghost_batch_norm": r"changes batch norms, and ConvNet has none\. Type model=resnet9",
    "ghost_batch_norm model=resnet9 technique.ghost_batch_norm.splits=5": r"splits=5 does not divide a batch of 16",
    "ghost_batch_norm model=resnet9 model.norm=ghost_batch": r"splits twice\. Leave one out",
    "ghost_batch_norm model=resnet9 technique.ghost_batch_norm.splits=0": r"splits=0 is out of range",
    "ghost_batch_norm model=resnet9 technique.ghost_batch_norm.splits=6 batch_size=36 data.drop_last=false": r"of 32",
    "frozen_bn_scale": r"and ConvNet has none\. Leave frozen_bn_scale out",
    "frozen_bn_scale model=resnet9 model.frozen_scale=true": r"ResNet9 has frozen them all already",
    "frozen_bn_scale model=resnet9 model.activation=celu init=zero_residual": r"keep the scale of .* at 0",
    "squeeze_excite technique.squeeze_excite.layers=[feature.0]": r"no module is called feature\.0\. Modules: features",
    "squeeze_excite technique.squeeze_excite.layers=[head]": r"the output of head has shape \(2, 10\)",
    "squeeze_excite model=mlp": r"MLP has no convolution\. Type model=convnet",
    "squeeze_excite technique.squeeze_excite.reduction=0": r"reduction=0 is out of range",
    "squeeze_excite technique.squeeze_excite.start=one": r"start=one is not an option. Allowed: half \| neutral",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_right_is_refused_in_words(command: str) -> None:
    name, *more = command.split()
    with pytest.raises(ValueError, match=REFUSED[command]):
        make(f"technique={name}", *more)


def test_an_unknown_batch_norm_is_refused() -> None:
    class Mine(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + 1

    with pytest.raises(ValueError, match=r"does not know what 0, a Mine, computes"):
        haunted(nn.Sequential(Mine(3)))
    with pytest.raises(ValueError, match=r"1 has no momentum"):
        haunted(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3, momentum=None)))
