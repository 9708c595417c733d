"""Switches of the layers: off they change no bit of the models, on they are torch's layers, under every engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract import advance, assert_resumes_exactly, largest_difference, make
from torch import Tensor, nn

import mltricks
from mltricks.config.compose import plain
from mltricks.config.create import create
from mltricks.functional.ghost_norm import GhostBatchNorm
from mltricks.models.activations import activation
from mltricks.models.layers import IMAGES, Layers
from mltricks.models.pooling import FractionalMaxPool, pooled
from mltricks.models.positions import CoordConv2d, sinusoidal, sinusoidal_2d
from mltricks.models.residual import Residual
from mltricks.models.squeeze_excite import SqueezeExcite
from mltricks.models.transformer import attention
from mltricks.stack.run import StackedRun

IMAGE = (3, 16, 16)


def model_of(command: str, shape: Any = IMAGE, seed: int = 0, outputs: int = 7) -> nn.Module:
    """The model of a command such as ``mlp depth=2``."""
    name, *settings = command.split()
    node = plain(mltricks.compose([f"model={name}", *(f"model.{setting}" for setting in settings)]))["model"]
    torch.manual_seed(seed)
    return create(node, "model", in_shape=shape, num_outputs=outputs)


def old_mlp() -> nn.Module:
    layers = [nn.Linear(768, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(128, 7))


def old_convnet() -> nn.Module:
    def block(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(3, 16), *block(16, 32), nn.Flatten(), nn.Linear(512, 7))


def old_fcn() -> nn.Module:
    layers: list[nn.Module] = []
    for i, channels in enumerate((3, 16, 16)):
        conv = nn.Conv2d(channels, 16, 3, padding=2**i, dilation=2**i, bias=False)
        layers += [conv, nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 7, 1))


def old_resnet9() -> nn.Module:
    def block(i: int, o: int, pool: bool) -> nn.Module:
        layers = [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    def residual(c: int) -> nn.Module:
        return Residual(nn.Sequential(block(c, c, False), block(c, c, False)))

    features = [
        block(3, 4, False),
        block(4, 8, True),
        residual(8),
        block(8, 16, True),
        block(16, 32, True),
        residual(32),
    ]
    return nn.Sequential(*features, MaximumTimes(0.125), nn.Linear(32, 7, bias=False))


class MaximumTimes(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3)) * self.scale


OLD = {"mlp depth=2": old_mlp, "convnet": old_convnet, "fcn": old_fcn, "resnet9 width=4": old_resnet9}


@pytest.mark.parametrize("command", OLD)
def test_models_without_switches_are_those_of_before_bit_for_bit(command: str) -> None:
    torch.manual_seed(0)
    old, x = OLD[command](), torch.randn(4, *IMAGE)
    after = torch.rand(1)
    new, same_x = model_of(command), torch.randn(4, *IMAGE)
    assert torch.equal(torch.rand(1), after), "the same random numbers were drawn"
    for mine, theirs in zip(new.state_dict().values(), old.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(new(same_x), old(x))


def test_a_siamese_network_has_the_switches_and_is_without_them_that_of_before() -> None:
    pair = {"left": (1, 8, 8), "right": (1, 8, 8)}
    torch.manual_seed(0)
    old = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    new = model_of("siamese", pair)
    assert list(new.state_dict()) == [f"tower.{name}" for name in old.state_dict()]
    x = {side: torch.randn(5, 1, 8, 8) for side in pair}
    assert torch.equal(new(x)[:, 1], old(x["right"]))
    deep = model_of("siamese depth=2 residual=true activation=gelu norm=layer", pair).get_submodule("tower")
    assert isinstance(deep, nn.Sequential)
    assert [type(m) for m in deep] == [nn.Flatten, nn.Linear, nn.LayerNorm, nn.GELU, Residual, nn.Linear]
    assert deep(x["left"]).shape == (5, 16)


NAMES = {
    "mlp": ["hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias"],
    "convnet": [f"{name}.{kind}" for name in ("features.0", "features.3", "head") for kind in ("weight", "bias")],
    "resnet9 residual=false": [*(n for n, _ in model_of("resnet9 width=4").named_parameters())],
}


@pytest.mark.parametrize("command", NAMES)
def test_names_of_parameters_stay(command: str) -> None:
    assert [name for name, _ in model_of(command).named_parameters()] == NAMES[command]


FORMULAS = {
    "relu_shifted": lambda x: x.clamp_min(0) - 0.5,
    "swish": lambda x: x / (1 + (-x).exp()),
    "mish": lambda x: x * torch.tanh(torch.log1p(x.exp())),
    "celu": lambda x: torch.where(x > 0, x, 0.3 * torch.expm1(x / 0.3)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "glu": lambda x: x[:, :4] * torch.sigmoid(x[:, 4:]),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_its_formula(name: Any) -> None:
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(activation(name, 0.3, axis=1)(x), FORMULAS[name](x))


@pytest.mark.parametrize("command", ["mlp depth=2", "convnet", "fcn", "resnet9 width=4", "two_towers"])
def test_glu_keeps_the_width_that_the_next_layer_sees(command: str) -> None:
    pair = {"left": (3,), "right": (3,)}
    x: Any = {side: torch.randn(4, 3) for side in pair} if command == "two_towers" else torch.randn(4, *IMAGE)
    shape = pair if command == "two_towers" else IMAGE
    plain_, gated = model_of(command, shape), model_of(f"{command} activation=glu", shape)
    assert gated(x).shape == plain_(x).shape
    assert any(isinstance(m, nn.GLU) for m in gated.modules())


def kinds(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.modules() if not list(m.children())]


def test_the_order_is_the_one_that_is_typed() -> None:
    model = model_of("convnet depth=1 order=conv-pool-norm-act norm=batch activation=gelu")
    assert kinds(model) == ["Conv2d", "MaxPool2d", "BatchNorm2d", "GELU", "Linear"]
    assert model.features[0].bias is None, "batch norm takes it away again"
    model = model_of("mlp order=linear-act-norm norm=layer")
    assert kinds(model) == ["Linear", "ReLU", "LayerNorm", "Linear"]
    assert model.hidden[0].bias is not None


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_norms_of_maps_are_those_of_wu_and_he(norm: str) -> None:
    x = torch.randn(4, 16, 5, 5)
    layer = Layers("mine", norm=norm, order="conv-norm-act").normalisation(16, maps=True)[0]
    parts = x.reshape(4, 1 if norm == "layer" else 8, -1)
    expected = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), expected.view_as(x))


def test_frozen_scales_stay_and_everything_else_moves() -> None:
    run = make("model=resnet9", "model.frozen_scale=true", "optim.weight_decay=0.5")
    assert run.frozen == {n for n in run.state["params"] if n.endswith("1.weight") and run.state["params"][n].ndim == 1}
    before = {name: p.clone() for name, p in run.state["params"].items()}
    advance(run, 3)
    for name, p in run.state["params"].items():
        assert torch.equal(p, before[name]) == (name in run.frozen)
    assert len(run.frozen) == 8
    assert all(torch.equal(before[name], torch.ones_like(before[name])) for name in run.frozen)


def test_coordinates_are_the_last_two_channels() -> None:
    layer = CoordConv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 5, 7)
    rows = torch.linspace(-1, 1, 5)[None, None, :, None].expand(2, 1, 5, 7)
    columns = torch.linspace(-1, 1, 7)[None, None, None].expand(2, 1, 5, 7)
    expected = F.conv2d(torch.cat([x, rows, columns], 1), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("value", "count"), [("first", 1), ("all", 8)])
def test_coordinates_are_read_where_they_are_asked_for(value: str, count: int) -> None:
    model = model_of(f"resnet9 width=2 coord_conv={value}")
    assert sum(isinstance(m, CoordConv2d) for m in model.modules()) == count
    assert isinstance(model.prep[0], CoordConv2d)


def test_gates_equal_torchvisions() -> None:
    from torchvision.ops import SqueezeExcitation

    mine, theirs = SqueezeExcite(16, 4), SqueezeExcitation(16, 4)
    with torch.no_grad():
        for ours, layer in ((mine.reduce, theirs.fc1), (mine.expand, theirs.fc2)):
            layer.weight.copy_(ours.weight[:, :, None, None])
            layer.bias.copy_(ours.bias)
    x = torch.randn(3, 16, 5, 5)
    torch.testing.assert_close(mine(x), theirs(x))


def test_gates_end_the_branches_of_resnet9_and_the_blocks_of_others() -> None:
    gates = [n for n, m in model_of("resnet9 width=4 squeeze_excite=2").named_modules() if isinstance(m, SqueezeExcite)]
    assert gates == ["layer1.1.branch.1.3", "layer3.1.branch.1.3"]
    assert kinds(model_of("convnet depth=1 squeeze_excite=4"))[:5] == [
        "Conv2d",
        "ReLU",
        "MaxPool2d",
        "Linear",
        "Linear",
    ]


@pytest.mark.parametrize("size", [5, 8, 13])
def test_fractional_pooling_equals_torchs_on_the_same_draws(size: int) -> None:
    x = torch.randn(2, 3, size, size)
    torch.manual_seed(4)
    mine = FractionalMaxPool(2**0.5)(x)
    torch.manual_seed(4)
    draws = torch.rand(2)[[1, 0]].expand(2, 3, 2)  # torch takes the column's number first
    out = int(size / 2**0.5)
    torch.testing.assert_close(mine, F.fractional_max_pool2d(x, 2, output_size=out, _random_samples=draws))


def test_fractional_pooling_is_random_in_training_alone() -> None:
    pool, x = FractionalMaxPool(1.4), torch.randn(2, 1, 24, 24)
    assert not torch.equal(pool(x), pool(x))
    assert torch.equal(pool.eval()(x), pool(x))


def test_what_the_head_sees() -> None:
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(pooled(x, "both"), torch.cat([x.flatten(2).amax(2), x.flatten(2).mean(2)], 1))
    assert pooled(x, "flatten").shape == (2, 48)
    for kind, features in (("max", 32), ("mean", 32), ("both", 64), ("flatten", 128)):
        assert model_of(f"resnet9 width=4 head_pool={kind}").head.in_features == features
        assert model_of(f"convnet width=8 head_pool={kind}").head.in_features == {"flatten": 256}.get(
            kind, features // 2
        )


def test_sinusoids_have_the_papers_wavelengths() -> None:
    code = sinusoidal(50, 8)
    for p, i in ((3, 0), (49, 3)):
        angle = p / 10000 ** (2 * i / 8)
        assert code[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert code[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    grid = sinusoidal_2d(3, 5, 8).view(3, 5, 8)
    torch.testing.assert_close(grid[2, 4], torch.cat([sinusoidal(3, 4)[2], sinusoidal(5, 4)[4]]))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
def test_a_transformer_tells_places_apart_by_its_positions(positions: str) -> None:
    model = model_of(f"transformer width=16 depth=1 heads=2 positions={positions}", (6,))
    swapped = torch.tensor([[2, 1, 3, 4, 5, 6]]), torch.tensor([[1, 2, 3, 4, 5, 6]])
    same = torch.allclose(*(model(x)[:, -1] for x in swapped), atol=1e-7)
    assert same == (positions == "none")


def test_attention_over_all_positions_equals_torchs() -> None:
    q, k, v = (torch.randn(2, 3, 5, 4) for _ in range(3))
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_residuals_are_on_or_off() -> None:
    x = torch.randn(3, *IMAGE)
    model = model_of("mlp depth=2 residual=true")
    h = model.hidden[0](x.flatten(1)).relu()
    torch.testing.assert_close(model(x), model.head(h + model.hidden[2].branch[0](h).relu()))
    for command in (
        "mlp depth=3",
        "fcn",
        "transformer width=16",
        "two_towers depth=3",
        "resnet9 width=4",
    ):
        shape: Any = {"transformer": (6,), "two_towers": {"left": (3,), "right": (3,)}}.get(command.split()[0], IMAGE)
        off = model_of(f"{command} residual=false", shape)
        assert not any(isinstance(m, Residual) for m in off.modules())


RUNS = {
    "mlp": "model=mlp model.depth=2 model.norm=ghost_batch model.activation=mish model.residual=true",
    "convnet": "model.norm=group model.norm_groups=2 model.activation=glu model.squeeze_excite=2 model.head_pool=both",
    "fractional": "model.pool=fractional model.coord_conv=all model.activation=relu_shifted model.head_pool=mean",
    "resnet9": "model=resnet9 model.width=2 model.norm=ghost_batch model.activation=celu model.celu_alpha=0.3"
    " model.order=conv-pool-norm-act model.frozen_scale=true model.whiten=3 model.pool=mean",
}


@pytest.mark.parametrize("case", RUNS)
def test_engines_stacks_and_resumed_runs_agree(case: str, tmp_path: Path) -> None:
    shared = [*RUNS[case].split(), "optim=sgd"]
    overrides = [*shared, "optim.lr=0.01"]
    losses = assert_resumes_exactly(overrides, 2, 4, tmp_path / "last.pt")
    assert advance(make(*overrides, "engine=traced"), 4) == pytest.approx(losses, rel=1e-4)
    members = [[*shared, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))]
    stacked = StackedRun([make(*member) for member in members])
    stacked_losses = stacked.advance(3)["loss"]
    for k, member in enumerate(members):
        alone = make(*member)
        assert stacked_losses[k].tolist() == pytest.approx(advance(alone, 3), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


REFUSED = {
    "mlp activation=selu": r"model\.activation=selu is not an option. Allowed: relu \| relu_shifted",
    "mlp celu_alpha=0.3": r"celu_alpha=0\.3 has no effect with model\.activation=relu\. Type .*=null, or .*=celu",
    "mlp frozen_scale=true": r"model\.frozen_scale=true has no effect with model\.norm=none",
    "mlp norm=layer norm_groups=4": r"norm_groups=4 has no effect with .*=layer\. Type .*=null, or .*=group",
    "airbench norm=none": (
        r"model\.norm_momentum=0\.6 and model\.norm_eps=1e-12 and model\.frozen_scale=true have no effect with "
        r"model\.norm=none\. Type model\.norm_momentum=null model\.norm_eps=null model\.frozen_scale=false, or .*=batch"
    ),
    "transformer norm=none frozen_scale=true": r"Type model\.frozen_scale=false, or model\.norm=layer\.",
    "mlp norm=group norm_groups=128": r"model\.norm_groups=128 does not divide 128 channels into groups of several",
    "convnet norm=group norm_groups=6": r"norm_groups=6 does not divide 16 channels into groups\. Type .*=4",
    "convnet order=conv-act-pool": r"model\.order=conv-act-pool is not an option. Allowed: conv-norm-act-pool",
    "mlp order=act-linear-norm": r"Allowed: linear-norm-act \| linear-act-norm",
    "convnet pool_ratio=1.5": r"model\.pool_ratio=1\.5 has no effect with model\.pool=max\. Type .*=fractional",
    "convnet pool=fractional pool_ratio=1.0": r"model\.pool_ratio=1\.0 is out of range",
    "convnet depth=5": r"at least 32x32 pixels",
    "convnet squeeze_excite=0": r"model\.squeeze_excite=0 is out of range",
    "transformer norm=batch": r"model\.norm=batch does not suit model=transformer\. Allowed: layer \| none",
    "transformer positions=sinusoidal width=15 heads=3": r"needs an even model\.width\. Type model\.width=18\.",
}


@pytest.mark.parametrize("command", REFUSED)
def test_wrong_switches_are_refused_in_words(command: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[command]):
        model_of(command, (6,) if command.startswith("transformer") else IMAGE)


def test_a_switch_that_a_model_has_not_got_is_refused_with_the_nearest() -> None:
    from mltricks.models.mlp import MLP

    with pytest.raises(ValueError, match=r"model\.actvation is no setting of model=mlp\. Did you mean activation"):
        MLP((3,), 2, width=4, depth=1, actvation="gelu")
    with pytest.raises(ValueError, match=rf"model\.{IMAGES[0]} is no setting of model=mlp"):
        MLP((3,), 2, width=4, depth=1, squeeze_excite=4)


def test_a_batch_that_ghosts_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ghost_splits=4 does not divide a batch of 6 .* Type .*=3"):
        GhostBatchNorm(3, 4, "model.ghost_splits")(torch.randn(6, 3))
    with pytest.raises(ValueError, match=r"model\.ghost_splits=4 leaves one number .* Type model\.ghost_splits=2"):
        GhostBatchNorm(3, 4, "model.ghost_splits")(torch.randn(4, 3, 1, 1))


def test_a_class_of_ones_own_in_the_place_of_a_built_in_one_is_told_its_option() -> None:
    with pytest.raises(ValueError, match=r"type model=custom model\._target_=torch\.nn\.Linear"):
        make("model._target_=torch.nn.Linear")
