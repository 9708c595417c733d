"""Stochastic depth: its arithmetic compared with torchvision's, the branches found in models, and its rates."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from bare import context, images, params_of, small_net
from contract import advance, make
from torch import nn
from torchvision.ops import stochastic_depth

from mltricks.models.residual import Residual
from mltricks.models.resnet9 import ResNet9
from mltricks.models.torchvision import create_torchvision
from mltricks.models.transformer import Transformer
from mltricks.techniques.stochastic_depth import RATE, StochasticDepth, drop, residual_branches, scale_kept


def resnet9() -> ResNet9:
    torch.manual_seed(0)
    return ResNet9((1, 8, 8), 4, width=2, logit_scale=1.0, pool="max")


def surgery(model: nn.Module, p: float = 0.5, mode: Any = "row", x: torch.Tensor | None = None) -> nn.Module:
    batch = {"x": images(4)["x"] if x is None else x}
    StochasticDepth(p=p, mode=mode).setup(model, params_of(model), batch, 0)
    return model


def rates(model: nn.Module) -> list[float]:
    return [float(buffer) for name, buffer in model.named_buffers() if name.rpartition(".")[2] == RATE]


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_arithmetic_equals_torchvisions_on_the_same_draws(mode: str) -> None:
    x = torch.randn(64, 3, 4, 4)
    for seed in range(4):
        torch.manual_seed(seed)
        keep = stochastic_depth(torch.ones(64, 1, 1, 1), 0.3, mode) > 0
        torch.manual_seed(seed)
        expected = stochastic_depth(x, 0.3, mode)
        torch.testing.assert_close(scale_kept(x, keep, torch.tensor(0.3)), expected)


@pytest.mark.parametrize("rows", [1, 4000])
def test_mean_and_share_are_as_they_should_be(rows: int) -> None:
    torch.manual_seed(0)
    x = torch.ones(rows, 2, 1)
    draws = torch.stack([drop(x, torch.tensor(0.3), rows) for _ in range(4000 // rows)]).flatten(0, 1)
    assert set(draws.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.7)}
    assert torch.equal(draws[:, 0], draws[:, 1]), "a branch is dropped as a whole"
    assert float(draws.mean()) == pytest.approx(1.0, abs=5 * (0.3 / 0.7 / 4000) ** 0.5)


def test_rows_are_decided_one_by_one_or_together() -> None:
    x, module = images(200)["x"], nn.Sequential(Residual(nn.Identity()))
    for mode, kinds in (("row", {0.0, 1.0}), ("batch", {1.0})):
        ctx = context(surgery(copy.deepcopy(module), p=0.5, mode=mode, x=x))
        torch.manual_seed(2)
        kept = (ctx.apply({}, x) != x).flatten(1).any(1).float()
        assert set(kept.tolist()) in (kinds, {0.0}) if mode == "batch" else set(kept.tolist()) == kinds


def test_output_without_branches_is_that_of_the_shortcuts() -> None:
    """At a rate close to 1, a residual block returns its input."""
    x = images(6)["x"]
    model = surgery(resnet9(), p=0.99999)
    model.get_buffer(f"layer1.1.branch.{RATE}").fill_(0.99999)
    bare = resnet9()
    for block in (bare.layer1[1], bare.layer3[1]):
        block.branch = nn.Sequential(block.branch, Zero())
    torch.testing.assert_close(context(model).apply(params_of(model), x), bare.train()(x))


class Zero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0


def test_rates_grow_linearly_with_depth() -> None:
    assert rates(surgery(resnet9(), p=0.4)) == pytest.approx([0.2, 0.4])
    model = Transformer((5,), 7, width=8, depth=2, heads=2, dropout=0.0, tie_weights=True)
    assert rates(surgery(model, p=0.8)) == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_prediction_and_names_of_parameters_stay() -> None:
    x, before = images(6)["x"], resnet9().eval()
    after = surgery(resnet9(), p=0.9)
    assert list(params_of(after)) == list(params_of(before))
    torch.testing.assert_close(context(after).apply(params_of(after), x, train=False), before(x))


def test_copy_of_a_model_keeps_its_own_rates() -> None:
    """The rate is read from the module that runs, not from the original."""
    model = surgery(resnet9(), p=0.5)
    twin = copy.deepcopy(model)
    for name, buffer in model.named_buffers():
        if name.endswith(RATE):
            buffer.fill_(0.0)
    x = images(50)["x"]
    torch.manual_seed(0)
    first = twin.train()(x)
    assert not torch.allclose(first, twin(x)), "the copy still drops"
    assert torch.equal(model.train()(x), model(x))


def test_schedule_reaches_the_rates() -> None:
    schedule = "technique.stochastic_depth.p={schedule: linear, start: 0.0, end: 0.8}"
    run = make("technique=[stochastic_depth]", "model=resnet9", schedule, "max_steps=4")
    seen = []
    for i in range(4):
        advance(run, 1, start=i)
        seen.append([float(v) for name, v in run.state["buffers"].items() if name.endswith(RATE)])
    expected = [[0.4 * share, 0.8 * share] for share in (0.0, 0.25, 0.5, 0.75)]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 8),
        ("resnet50", 16),
        ("mobilenet_v2", 10),
        ("mobilenet_v3_small", 6),
        ("efficientnet_b0", 9),
        ("convnext_tiny", 18),
        ("regnet_y_400mf", 16),
        ("mnasnet0_5", 10),
        ("vit_b_16", 24),
        ("swin_t", 12),
    ],
)
def test_branches_of_torchvisions_models_are_found(name: str, count: int) -> None:
    with torch.device("cpu" if "regnet" in name else "meta"):  # RegNet's constructor computes its own rates
        model = create_torchvision((3, 224, 224), 10, name, {}, pretrained=False, stem="imagenet")
    assert len(residual_branches(model)) == count


@pytest.mark.parametrize(("name", "count"), [("resnet18", 8), ("seresnet50", 16), ("vit_tiny_patch16_224", 24)])
@pytest.mark.parametrize("own_rate", [0.0, 0.3])
def test_branches_of_timms_models_are_found_and_their_own_rates_switched_off(
    name: str, count: int, own_rate: float
) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10, drop_path_rate=own_rate)
    assert len(residual_branches(model)) == count
    assert {m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")} <= {0.0, None}


def test_own_stochastic_depth_of_a_model_is_replaced() -> None:
    """At rate 0, a model with its own stochastic depth gives the same output twice."""
    model = create_torchvision((3, 32, 32), 4, "convnext_tiny", {}, pretrained=False, stem="imagenet")
    x = torch.randn(4, 3, 32, 32)
    ctx = context(surgery(model, p=0.0, x=x))
    assert torch.equal(ctx.apply(params_of(model), x), ctx.apply(params_of(model), x))


def test_left_out_block_of_a_resnet_is_the_activated_shortcut() -> None:
    block = create_torchvision((3, 32, 32), 4, "resnet18", {}, pretrained=False, stem="small").layer1[0].train()  # type: ignore[union-attr,index]
    x = torch.randn(6, 64, 4, 4)
    surgery(block, p=0.99999, x=x)
    torch.testing.assert_close(block(x), x.relu())


def test_own_module_may_name_its_branches() -> None:
    class Mine(nn.Module):
        residual_branches = ("left", "right")

        def __init__(self) -> None:
            super().__init__()
            self.left, self.middle, self.right = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    model = Mine()
    assert residual_branches(model) == [model.left, model.right]


def test_model_without_residuals_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Sequential has none that it knows\. Type model=resnet9"):
        surgery(small_net())
    with pytest.raises(ValueError, match="ConvNet has none"):
        make("technique=[stochastic_depth]")


@pytest.mark.parametrize(
    ("override", "message"),
    [("p=1.0", "p=1.0 is out of range"), ("mode=sample", "mode=sample is not an option. Allowed: row")],
)
def test_wrong_values_are_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"technique.stochastic_depth.{message}"):
        make("technique=[stochastic_depth]", "model=resnet9", f"technique.stochastic_depth.{override}")
