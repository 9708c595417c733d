"""airbench, inception, vit, davidnet and resnet18: equal to their sources, of the published sizes, under engines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract import advance, largest_difference, make
from test_layer_switches import model_of
from torch import Tensor, nn

from mltricks.models.airbench import Airbench
from mltricks.models.inception import Inception, InceptionModule
from mltricks.models.vit import ViT
from mltricks.stack.run import StackedRun

CIFAR = (3, 32, 32)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class Group(nn.Module):
    """ConvGroup of the authors' repository, with two or three convolutions."""

    def __init__(self, i: int, o: int, momentum: float, convs: int):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(i if k == 0 else o, o, 3, padding="same", bias=False) for k in range(convs)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o, eps=1e-12, momentum=1 - momentum) for _ in range(convs))

    def forward(self, x: Tensor) -> Tensor:
        gelu = nn.GELU()
        x = gelu(self.norms[0](nn.functional.max_pool2d(self.convs[0](x), 2)))
        kept = x
        for conv, norm in zip(self.convs[1:-1], self.norms[1:-1], strict=True):
            x = gelu(norm(conv(x)))
        x = self.norms[-1](self.convs[-1](x))
        return gelu(x + kept if len(self.convs) == 3 else x)


def authors_network(widths: list[int], momentum: float = 0.6, convs: int = 2) -> nn.Sequential:
    sizes = [24, *widths]
    groups = [Group(sizes[i], sizes[i + 1], momentum, convs) for i in range(3)]
    first = nn.Conv2d(3, 24, 2, padding=0, bias=True)
    return nn.Sequential(
        first, nn.GELU(), *groups, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(widths[-1], 10, bias=False)
    )


NETS = {
    "airbench93": ([64, 128, 128], 0.6, 2),
    "airbench": ([64, 256, 256], 0.6, 2),
    "airbench95": ([128, 384, 384], 0.6, 2),
    "airbench96": ([128, 384, 512], 0.9, 3),
}


@pytest.mark.parametrize("name", NETS)
def test_airbench_equals_the_authors_networks(name: str) -> None:
    widths, momentum, convs = NETS[name]
    theirs = authors_network([width // 16 for width in widths], momentum, convs)
    mine = model_of(f"{name} width={widths[0] // 16}", CIFAR, outputs=10)
    ours_by_kind, theirs_by_kind = ([*m.modules()] for m in (mine, theirs))
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    for kind in kinds:
        pairs = zip(*([m for m in ms if isinstance(m, kind)] for ms in (ours_by_kind, theirs_by_kind)), strict=True)
        for ours, their in pairs:
            their.load_state_dict(ours.state_dict())
    x = torch.randn(4, *CIFAR)
    for _ in range(2):
        torch.testing.assert_close(mine(x), theirs(x) / 9, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x) / 9, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_airbench_has_the_authors_size_and_trains_the_same_parameters(name: str) -> None:
    widths, momentum, convs = NETS[name]
    with torch.device("meta"):
        mine, theirs = model_of(name, CIFAR, outputs=10), authors_network(widths, momentum, convs)
    assert size(mine) == size(theirs)
    frozen = [n for n, p in mine.named_parameters() if not p.requires_grad]
    assert len(frozen) == 3 * convs, "the scales of all norms"
    if name == "airbench":
        assert round(size(mine) / 1e6, 2) == 1.97, "the paper's section 3.1"


def test_an_inception_module_is_that_of_the_paper() -> None:
    """Table 1 has 159K parameters for inception (3a), of 192 channels in and 256 out; K is 1024, without biases."""
    model = model_of("inception width=64 norm=none", CIFAR)
    module = InceptionModule(model.switches, 192, 256)
    weights = sum(p.numel() for n, p in module.named_parameters() if n.endswith("weight"))
    assert weights // 1024 == 159
    widths = [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [64, 96, 128, 16, 32, 32]
    x = torch.randn(2, 192, 5, 5)
    n, m, w, p = (part for part in (module.narrow, module.middle, module.wide, module.pooled))
    relu = torch.relu
    expected = [
        relu(n[0](x)),
        relu(m[2](relu(m[0](x)))),
        relu(w[2](relu(w[0](x)))),
        relu(p[1](nn.functional.max_pool2d(x, 3, 1, 1))),
    ]
    torch.testing.assert_close(module(x), torch.cat(expected, 1))


def test_vit_equals_torchvisions() -> None:
    from torchvision.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(8, 4, 2, 2, 16, 64, num_classes=7).eval()
    mine = model_of("vit width=16 depth=2 heads=2", (3, 8, 8)).eval()
    nn.init.normal_(mine.head.bias)
    with torch.no_grad():
        theirs.class_token.normal_()
        mine.cls.copy_(theirs.class_token)
        mine.position_embedding.copy_(theirs.encoder.pos_embedding[0])
    pairs = [(mine.patches, theirs.conv_proj), (mine.norm[0], theirs.encoder.ln), (mine.head, theirs.heads.head)]
    for block, layer in zip(mine.blocks, theirs.encoder.layers, strict=True):
        attention, perceptron = block.attention.branch, block.perceptron.branch
        nn.init.normal_(attention.mix.qkv.bias)
        pairs += [(attention.norm, layer.ln_1), (attention.mix.out, layer.self_attention.out_proj)]
        pairs += [(perceptron.norm, layer.ln_2), (perceptron.hidden, layer.mlp[0]), (perceptron.out, layer.mlp[3])]
        with torch.no_grad():
            layer.self_attention.in_proj_weight.copy_(attention.mix.qkv.weight)
            layer.self_attention.in_proj_bias.copy_(attention.mix.qkv.bias)
    for ours, their in pairs:
        their.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_vit_b_16_has_its_published_size() -> None:
    with torch.device("meta"):
        model = model_of("vit patch=16 width=768 depth=12 heads=12", (3, 224, 224), outputs=1000)
    assert size(model) == 86_567_656, "torchvision's table; 86M in the paper"


@pytest.mark.parametrize("setting", ["head_pool=mean", "positions=sinusoidal", "positions=none"])
def test_vit_has_switches(setting: str) -> None:
    model, x = model_of(f"vit width=16 depth=1 heads=2 {setting}", (1, 8, 12)), torch.randn(3, 1, 8, 12)
    assert model(x).shape == (3, 7)
    mirrored = x.flip(3)[..., [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]]  # the patches in another order
    same = torch.allclose(model(x), model(mirrored), rtol=1e-5, atol=1e-7)
    assert same == (setting == "positions=none")


def test_davidnet_has_pages_layers() -> None:
    model = model_of("davidnet width=4", CIFAR)
    assert [type(m).__name__ for m in model.layer1[0]] == ["Conv2d", "MaxPool2d", "GhostBatchNorm", "CELU"]
    assert model.whiten.weight.shape == (27, 3, 3, 3)
    assert model.prep[0].weight.shape == (4, 27, 1, 1)
    assert model.layer1[0][3].alpha == 0.3
    assert model.layer1[0][2].splits == 16
    assert not model.layer1[0][2].weight.requires_grad


def test_resnet18_is_torchvisions_with_the_small_stem() -> None:
    with torch.device("meta"):
        model = model_of("resnet18", CIFAR, outputs=10)
    assert size(model) == 11_173_962, "the usual count for CIFAR-10"


RUNS = {
    "airbench96": "model=airbench96 model.width=2 model.ratios=[1,2,2] model.whiten=1 model.pool=mean"
    " model.norm_eps=1e-5 init=whitening init.rest=dirac",
    "inception": "model=inception model.width=16 model.pool=mean",
    "vit": "model=vit model.width=8 model.depth=1 model.heads=2 model.positions=sinusoidal model.activation=mish",
}


@pytest.mark.parametrize("case", RUNS)
def test_engines_and_stacks_agree(case: str) -> None:
    shared = [*RUNS[case].split(), "optim=sgd"]
    eager, traced = (make(*shared, "optim.lr=0.01", f"engine={engine}") for engine in ("eager", "traced"))
    assert advance(eager, 3) == pytest.approx(advance(traced, 3), rel=1e-4)
    members = [[*shared, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))]
    stacked = StackedRun([make(*member) for member in members])
    losses = stacked.advance(3)["loss"]
    for k, member in enumerate(members):
        alone = make(*member)
        assert losses[k].tolist() == pytest.approx(advance(alone, 3), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


REFUSED: dict[str, tuple[Any, str]] = {
    "airbench": ((1, 8, 8), r"at least 9x9 pixels"),
    "airbench96 depth=1": (CIFAR, r"Type model\.depth=2"),
    "airbench96 activation=glu": (CIFAR, r"Type model\.residual=false"),
    "airbench ratios=[4,4]": (CIFAR, r"model\.ratios=\[4, 4\] must have 3 members"),
    "inception width=20": (CIFAR, r"model\.width=20 is no multiple of 16\. Type model\.width=16"),
    "inception": ((5,), r"model=inception needs images"),
    "vit patch=5": (CIFAR, r"model\.patch=5 does not divide images of 32x32 pixels\. Type model\.patch=4"),
    "vit head_pool=max": (CIFAR, r"model\.head_pool=max is not an option. Allowed: cls \| mean"),
    "vit": ((6,), r"model=vit reads images"),
    "vit width=30": (CIFAR, r"Type model\.width=28"),
    "vit positions=sinusoidal width=42 heads=3": (CIFAR, r"Type model\.width=36"),
    "vit norm=group": (CIFAR, r"model\.norm=group does not suit model=vit"),
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_does_not_fit_is_refused_in_words(command: str) -> None:
    shape, words = REFUSED[command]
    with pytest.raises(ValueError, match=words):
        model_of(command, shape)


def test_the_constructors_read_their_switches_from_the_yaml() -> None:
    assert Airbench(CIFAR, 10, width=4, ratios=[1, 1, 1], logit_scale=1.0).switches.activation == "gelu"
    assert Inception(CIFAR, 10, width=16).switches.head_pool == "mean"
    assert ViT(CIFAR, 10, 4, 8, 1, 2, 0.0, "cls")(torch.randn(2, *CIFAR)).shape == (2, 10)
