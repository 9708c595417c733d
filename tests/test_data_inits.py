"""lsuv, whitening, zero_residual, dirac and the gain of activations: their definitions on real layers; refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import images, params_of
from contract import advance, make
from test_init import make as initialiser
from test_layer_switches import model_of
from torch import Tensor, nn

from mltricks.functional.residual_branches import branch_ends
from mltricks.inits.gain import gain_of, model_gain
from mltricks.inits.whitening import whitening_filters
from mltricks.models.activations import ShiftedReLU
from mltricks.models.residual import Residual
from mltricks.models.torchvision import create_torchvision

CIFAR = (3, 32, 32)


def outputs_of(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output of every linear layer and convolution."""
    found: dict[str, Tensor] = {}
    for name, m in model.named_modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            m.register_forward_hook(lambda _, i, o, name=name: found.__setitem__(name, o))
    with torch.no_grad():
        model.eval()(x)
    return found


@pytest.mark.parametrize(
    "command", ["mlp depth=6", "convnet activation=gelu", "resnet9 width=4", "vit width=16 depth=2"]
)
def test_lsuv_gives_every_layer_unit_deviation_on_the_batch(command: str) -> None:
    model, x = model_of(command, (1, 8, 8)), 3 * torch.randn(64, 1, 8, 8)
    training = model.training
    message = initialiser("lsuv")(model, {"x": x})
    assert model.training == training
    found = outputs_of(model, x)
    assert f"scaled {len(found)} layers" in message
    for name, output in found.items():
        assert float(output.std()) == pytest.approx(1, abs=0.1), name


def test_lsuv_keeps_the_directions_orthogonal_and_buffers_as_they_were() -> None:
    model, x = model_of("resnet9 width=4", (1, 8, 8)), torch.randn(16, 1, 8, 8)
    before = {name: b.clone() for name, b in model.named_buffers()}
    initialiser("lsuv")(model, {"x": x})
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    w = model.layer2[0].weight.detach().flatten(1)
    product = w @ w.T
    torch.testing.assert_close(product, product[0, 0] * torch.eye(len(w)), rtol=0, atol=1e-4)


def test_lsuv_corrects_a_layer_that_runs_twice_once_and_leaves_tied_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early, self.tied = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.out = nn.Linear(8, 8)
            self.tied.weight = self.out.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.tied(self.late(self.late(self.early(x)))))

    model, x = Twice(), torch.randn(50, 8)
    message = initialiser("lsuv")(model, {"x": x})
    assert message == "init: lsuv scaled 2 layers; orthonormal only: tied, out"
    first = model.early(x).detach()
    assert float(first.std()) == pytest.approx(1, abs=0.1)
    assert float(model.late(first).detach().std()) == pytest.approx(1, abs=0.1), "at its first call"


def test_lsuv_refuses_a_dead_layer() -> None:
    with pytest.raises(ValueError, match=r"that of 0 is 0 on the first batch"):
        initialiser("lsuv")(nn.Sequential(nn.Linear(4, 4)), {"x": torch.zeros(5, 4)})


def test_lsuv_runs_by_the_command() -> None:
    run = make("init=lsuv", "model=mlp", "model.depth=3")
    assert run.messages[-1] == "init: lsuv scaled 4 layers"
    losses = advance(run, 30)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("side", [2, 3])
def test_whitened_patches_are_uncorrelated_with_unit_variance(side: int) -> None:
    x = F.avg_pool2d(torch.randn(32, 3, 20, 20), 3, 1)  # neighbours are correlated
    filters = whitening_filters(x, (side, side), eps=1e-9).view(-1, 3, side, side)
    y = F.conv2d(x, filters).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(y @ y.T / y.shape[1], torch.eye(len(y)).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("activation", ["gelu", "glu"])
def test_whitening_equals_the_authors_code_up_to_signs(activation: str) -> None:
    model, x = (
        model_of(f"airbench width=4 activation={activation}", CIFAR),
        F.avg_pool2d(torch.randn(16, 3, 34, 34), 3, 1),
    )
    initialiser("whitening")(model, {"x": x})
    patches = x.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).reshape(-1, 3, 2, 2)
    flat = patches.reshape(len(patches), -1).double()
    values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    expected = vectors.T.reshape(12, 3, 2, 2).flip(0) / (values.flip(0).view(-1, 1, 1, 1) + 5e-4).sqrt()
    weight = model.whiten.weight.detach()
    torch.testing.assert_close(weight[:12].abs(), expected.abs().float(), rtol=1e-4, atol=1e-5)
    assert torch.equal(weight[12:], -weight[:12])
    assert not model.whiten.bias.detach().any()
    assert model(x).shape == (16, 7)


def test_the_whitening_layer_is_frozen_and_its_bias_is_trained() -> None:
    shared = ["model=airbench", "model.width=2", "model.whiten=1", "model.norm_eps=1e-5", "optim.weight_decay=0.3"]
    run = make("init=whitening", "init.rest=dirac", *shared)
    assert "whiten.weight" in run.frozen
    before = {name: p.clone() for name, p in run.state["params"].items()}
    advance(run, 3)
    assert torch.equal(run.state["params"]["whiten.weight"], before["whiten.weight"])
    assert not torch.equal(run.state["params"]["whiten.bias"], before["whiten.bias"])


def test_whitening_of_davidnet_has_no_negatives() -> None:
    model, x = model_of("davidnet width=2", (1, 8, 8)), torch.randn(64, 1, 8, 8)
    initialiser("whitening", eps=1e-2)(model, {"x": x})
    torch.testing.assert_close(model.whiten.weight.flatten(1), whitening_filters(x, (3, 3), 1e-2))


def test_dirac_passes_the_first_channels_on() -> None:
    model = model_of("airbench width=32 ratios=[1,2,2]", CIFAR)
    before = params_of(model)
    assert initialiser("dirac")(model) == "init: dirac set 6 convolutions"
    conv, x = model.groups[0][0], torch.randn(2, 24, 6, 6)
    torch.testing.assert_close(conv(x)[:, :24], x)
    assert torch.equal(conv.weight[24:], before["groups.0.0.weight"][24:]), "the others keep their values"
    assert torch.equal(model.whiten.weight, before["whiten.weight"]), "2x2 kernels have no centre"


RESIDUALS = [
    "resnet9 width=4 activation=celu",
    "resnet9 width=4 order=conv-act-norm-pool",
    "airbench96 width=4 frozen_scale=false",
]
RESIDUALS += ["mlp depth=3 residual=true activation=gelu", "vit width=16 depth=2", "resnet9 width=4 activation=gelu"]


@pytest.mark.parametrize("command", [*RESIDUALS, "resnet9 width=16 squeeze_excite=4 activation=mish"])
def test_zero_residual_makes_blocks_their_shortcuts_that_can_learn(command: str) -> None:
    model = model_of(command, CIFAR)
    initialiser("zero_residual")(model)
    blocks = [m for m in model.modules() if isinstance(m, Residual)]
    for block in blocks:
        block.register_forward_hook(lambda m, i, o: torch.testing.assert_close(o, m.shortcut(i[0])))
    before, y = params_of(model), torch.randint(7, (8,))
    F.cross_entropy(model(torch.randn(8, *CIFAR)), y).backward()
    inside = {id(p) for block in blocks for p in block.branch.parameters()}
    zeros = [n for n, p in model.named_parameters() if id(p) in inside and not before[n].any() and n.endswith("weight")]
    assert len(zeros) == len(blocks)
    assert all(model.get_parameter(name).grad.any() for name in zeros)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_residual_equals_torchvisions(name: str) -> None:
    import torchvision

    model = create_torchvision(CIFAR, 7, name, {}, pretrained=False, stem="imagenet")
    initialiser("zero_residual")(model)
    theirs = torchvision.models.get_model(name, zero_init_residual=True, num_classes=7)
    zeros = {n for n, p in theirs.named_parameters() if n.endswith("weight") and not p.any()}
    assert {n for n, p in model.named_parameters() if n.endswith("weight") and not p.any()} == zeros
    assert len(zeros) == len(branch_ends(model))


def test_zero_residual_uses_timms_own() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet18", num_classes=3, zero_init_last=False)
    assert initialiser("zero_residual")(model) == "init: zero_residual silenced 8 branches"
    assert not model.layer1[0].bn2.weight.any()


MOMENTS = {  # E[f(z)^2] in closed form
    nn.ReLU: 1 / 2,
    nn.GELU: 1 / 3 + 1 / (2 * math.pi * 3**0.5),
    ShiftedReLU: 1 / 2 - 1 / math.sqrt(2 * math.pi) + 1 / 4,
    nn.Identity: 1.0,
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_gains_are_exact(kind: Any) -> None:
    assert gain_of(kind()) == pytest.approx(MOMENTS[kind] ** -0.5, rel=1e-8)
    assert gain_of(nn.LeakyReLU(0.3)) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-8)
    assert gain_of(nn.SELU()) == pytest.approx(1, rel=1e-6), "its fixed point"


@pytest.mark.parametrize("name", ["gelu", "swish", "mish", "glu", "relu_shifted"])
def test_the_gain_keeps_the_size_of_activations(name: str) -> None:
    """Of standard deviation 1 before the activation; other sizes drift where it is not homogeneous."""
    model = model_of(f"mlp depth=6 width=256 activation={name}", (256,))
    initialiser("kaiming", nonlinearity="auto")(model)
    x = torch.randn(64, 256) / model_gain(model, "init.gain")
    sizes = [float(output.square().mean()) for output in outputs_of(model, x).values()]
    assert sizes[0] == pytest.approx(1, rel=0.2)
    assert 0.4 < sizes[-1] < 2.5


REFUSED = {
    "lsuv tolerance=0": r"init\.tolerance=0 is out of range",
    "normal std=0": r"init\.std=0 is out of range",
    "whitening rest=none": r"init\.rest=none is not an option",
    "whitening eps=0": r"init\.eps=0 is out of range",
    "xavier gain=relu": r"init\.gain=relu is not an option. Allowed: auto \| a number",
}


@pytest.mark.parametrize("command", REFUSED)
def test_wrong_settings_are_refused(command: str) -> None:
    name, setting = command.split()
    with pytest.raises(ValueError, match=REFUSED[command]):
        make(f"init={name}", f"init.{setting}")


def test_models_that_do_not_fit_are_refused_in_words() -> None:
    batch = images(4)
    with pytest.raises(ValueError, match=r"needs a first convolution of 9 or 18 channels.*features\.0 has 16"):
        initialiser("whitening")(model_of("convnet", (1, 8, 8)), batch)
    with pytest.raises(ValueError, match=r"MLP has none\. Type model=airbench"):
        initialiser("whitening")(model_of("mlp", (1, 8, 8)), batch)
    with pytest.raises(ValueError, match=r"ConvNet has none that it knows\. Type model=resnet9"):
        initialiser("zero_residual")(model_of("convnet", (1, 8, 8)))
    with pytest.raises(ValueError, match=r"ends in ReLU, which is flat .* Type model\.activation=celu"):
        initialiser("zero_residual")(model_of("resnet9 width=2", (1, 8, 8)))
    with pytest.raises(ValueError, match=r"is frozen, .* Type model\.frozen_scale=false"):
        initialiser("zero_residual")(model_of("airbench96 width=2", CIFAR))
    with pytest.raises(ValueError, match=r"and MLP has none\. Type init=default"):
        initialiser("dirac")(model_of("mlp", (1, 8, 8)))


def test_a_gain_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Linear has no module for one.*init\.gain=1\.4142"):
        model_gain(nn.Linear(2, 2), "init.gain")
    two = nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.Tanh())
    with pytest.raises(ValueError, match=r"several, with gains of their own: ReLU\(\) 1\.414, Tanh\(\) 1\.593"):
        initialiser("orthogonal", gain="auto")(two)
