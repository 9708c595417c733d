"""Models: parity with their sources, the inputs they accept, and the messages for inputs that do not fit."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import params_of
from contract import SMALL, advance, largest_difference
from torch import Tensor, nn

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.construct import make_model
from mltricks.data.info import Info
from mltricks.functional import foreach
from mltricks.inputs.image import Image
from mltricks.inputs.tokens import Tokens
from mltricks.inputs.vector import Vector
from mltricks.models.residual import Residual
from mltricks.models.resnet9 import ResNet9
from mltricks.models.torchvision import create_torchvision, replace_head
from mltricks.models.transformer import Transformer, causal_attention
from mltricks.objectives.classify import Classify
from mltricks.objectives.next_token import NextToken
from mltricks.stack.run import StackedRun

DIGITS = Info(Image((1, 8, 8)), "classes", 10)
FEATURES = Info(Vector((6,)), "classes", 3)
TEXT = Info(Tokens((12,), 7), "tokens", 7)


def model_from(option: str, info: Info, **settings: Any) -> nn.Module:
    node = plain(mltricks.compose([f"model={option}"]))["model"] | settings
    return make_model(node, info, [], NextToken() if info is TEXT else Classify())


def make(*overrides: str) -> Run:
    return build(plain(mltricks.compose(list(overrides))))


def test_resnet9_equals_pages_network() -> None:
    torch.manual_seed(0)
    model = ResNet9((3, 32, 32), 10, width=4, logit_scale=0.125, pool="max").eval()
    p = params_of(model)

    def unit(x: Tensor, name: str) -> Tensor:
        x = F.conv2d(x, p[f"{name}.0.weight"], padding=1) / math.sqrt(1 + 1e-5)  # new batch norms, in evaluation mode
        return x.relu()

    def res(x: Tensor, name: str) -> Tensor:
        return x + unit(unit(x, f"{name}.branch.0"), f"{name}.branch.1")

    x = torch.randn(2, 3, 32, 32)
    h = unit(x, "prep")
    h = res(F.max_pool2d(unit(h, "layer1.0"), 2), "layer1.1")
    h = F.max_pool2d(unit(h, "layer2"), 2)
    h = res(F.max_pool2d(unit(h, "layer3.0"), 2), "layer3.1")
    expected = F.linear(F.max_pool2d(h, 4).flatten(1), p["head.weight"]) * 0.125
    torch.testing.assert_close(model(x), expected)
    assert p["head.weight"].shape == (10, 32), "512 features at the source's width of 64"


def test_resnet9_of_the_source_has_its_size() -> None:
    with torch.device("meta"):
        model = ResNet9((3, 32, 32), 10, width=64, logit_scale=0.125, pool="max")
    assert sum(p.numel() for p in model.parameters()) == 6_573_120


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 33, 47)])
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_resnet9_takes_any_size(shape: tuple[int, ...], pool: str) -> None:
    assert ResNet9(shape, 5, width=2, logit_scale=1.0, pool=pool)(torch.randn(3, *shape)).shape == (3, 5)


@pytest.mark.parametrize("name", ["convnet", "resnet9", "torchvision"])
def test_storage_order_of_images_changes_nothing(name: str) -> None:
    model = model_from(name, DIGITS).eval()
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), model(x), rtol=1e-4, atol=1e-5)


def test_torchvision_model_equals_torchvisions() -> None:
    import torchvision

    torch.manual_seed(3)
    mine = create_torchvision((3, 32, 32), 7, "resnet18", {}, pretrained=False, stem="imagenet").eval()
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(mine(x), theirs(x))


def test_a_grey_image_gives_the_same_output_as_its_copy_in_three_channels() -> None:
    torch.manual_seed(3)
    colour = create_torchvision((3, 32, 32), 7, "resnet18", {}, pretrained=False, stem="imagenet").eval()
    torch.manual_seed(3)
    grey = create_torchvision((1, 32, 32), 7, "resnet18", {}, pretrained=False, stem="imagenet").eval()
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), colour(x.expand(2, 3, 32, 32)), rtol=1e-4, atol=1e-5)


def test_small_stem_keeps_the_images_size() -> None:
    model = create_torchvision((1, 8, 8), 10, "resnet18", {}, pretrained=False, stem="small")
    sizes: dict[str, torch.Size] = {}
    model.layer1.register_forward_hook(lambda m, i, o: sizes.update(layer1=o.shape))  # type: ignore[union-attr]
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    assert sizes["layer1"] == (2, 64, 8, 8)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_pretrained_weights_get_a_new_last_layer_and_keep_the_rest(name: str) -> None:
    model = create_torchvision((3, 64, 64), 1000, name, {}, pretrained=False, stem="imagenet")
    before = params_of(model)
    replace_head(model, 4)
    changed = {n for n, p in model.named_parameters() if before[n].shape != p.shape or not torch.equal(before[n], p)}
    assert len(changed) == 2
    assert model.eval()(torch.randn(2, 3, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_left_out(name: str) -> None:
    with torch.device("meta"):
        model = create_torchvision((3, 96, 96), 5, name, {}, pretrained=False, stem="imagenet")
        assert model.train()(torch.randn(2, 3, 96, 96)).shape == (2, 5)


def test_timm_model_equals_timms() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    mine = model_from("timm", DIGITS, name="vit_tiny_patch16_224", img_size=8, arguments={"patch_size": 4, "depth": 2})
    torch.manual_seed(3)
    theirs = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=10, img_size=8, patch_size=4, depth=2)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(mine.eval()(x), theirs.eval()(x))


def test_without_timm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="pip install timm"):
        model_from("timm", DIGITS)


def small_transformer(**settings: Any) -> Transformer:
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 2, "heads": 4, "dropout": 0.0, "tie_weights": True}
    return Transformer((12,), 7, **{**sizes, **settings})


def test_transformer_sees_nothing_of_the_future() -> None:
    model, x = small_transformer(), torch.randint(7, (3, 12))
    changed = x.clone()
    changed[:, 5] = (x[:, 5] + 1) % 7
    before, after = model(x), model(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5:], before[:, 5:])
    torch.testing.assert_close(model(x[:, :4]), before[:, :4])


def test_attention_equals_torchs() -> None:
    q, k, v = (torch.randn(2, 3, 5, 4) for _ in range(3))
    torch.testing.assert_close(causal_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True))
    model, x = small_transformer(), torch.randint(7, (3, 12))
    fused = model(x)
    with foreach.unrolled():
        torch.testing.assert_close(model(x), fused)


def test_the_transformers_block_equals_torchs_encoder_layer() -> None:
    block = small_transformer().blocks[0]
    torchs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    attention, perceptron = block.attention.branch, block.perceptron.branch
    pairs = {
        torchs.self_attn.in_proj_weight: attention.mix.qkv.weight,
        torchs.self_attn.out_proj.weight: attention.mix.out.weight,
        torchs.linear1.weight: perceptron.hidden.weight,
        torchs.linear2.weight: perceptron.out.weight,
    }
    with torch.no_grad():
        for theirs, mine in pairs.items():
            theirs.copy_(mine)
        for bias in (torchs.self_attn.in_proj_bias, torchs.linear1.bias, torchs.linear2.bias):
            bias.zero_()
    x = torch.randn(2, 6, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    torch.testing.assert_close(block(x), torchs(x, src_mask=mask, is_causal=True), rtol=1e-4, atol=1e-6)


def test_tied_weights_are_one_parameter() -> None:
    tied, free = (sum(p.numel() for p in small_transformer(tie_weights=t).parameters()) for t in (True, False))
    assert free - tied == 7 * 16


def test_untrained_transformer_is_as_good_as_guessing() -> None:
    x = torch.randint(7, (64, 12))
    loss = F.cross_entropy(small_transformer(tie_weights=False)(x).flatten(0, 1), torch.randint(7, (64, 12)).flatten())
    assert float(loss.detach()) == pytest.approx(math.log(7), abs=0.08), (
        "logits have a standard deviation of 0.02 sqrt(16)"
    )


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    path = tmp_path / "abc.txt"
    path.write_text("the cat sat on the mat and that was that. " * 60)
    small = ["model.width=16", "model.depth=1", "model.heads=2", "batch_size=8", "epochs=2", "data.length=16"]
    return ["data=text", f"data.path={path}", "objective=next_token", "model=transformer", *small]


def test_transformer_learns_and_traces(text: list[str]) -> None:
    eager, traced = make(*text, "model.dropout=0.1"), make(*text, "model.dropout=0.1", "engine=traced")
    losses = advance(eager, 20)
    assert losses[-1] < losses[0] - 0.2
    assert advance(traced, 20) == pytest.approx(losses, rel=1e-4)


def test_stacked_transformers_equal_the_runs_alone(text: list[str]) -> None:
    overrides = [[*text, "optim=sgd", "optim.lr=0.1", f"seed={seed}"] for seed in (0, 1)]
    stacked = StackedRun([make(*o) for o in overrides])
    losses = stacked.advance(3)["loss"]
    for k, o in enumerate(overrides):
        alone = make(*o)
        assert advance(alone, 3) == pytest.approx(losses[k].tolist(), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


def test_resnet9_traces() -> None:
    overrides = ["model=resnet9", *SMALL, "optim=sgd"]
    eager, traced = make(*overrides), make(*overrides, "engine=traced")
    assert advance(eager, 3) == pytest.approx(advance(traced, 3), rel=1e-5)
    assert largest_difference(eager.state, traced.state) < 1e-5


OWN = """
import torch
from torch import nn

class Lazy(nn.Module):
    def __init__(self, num_outputs, hidden):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(hidden), nn.ReLU(), nn.LazyLinear(num_outputs))

    def forward(self, x):
        return self.layers(x)

class Wrong(nn.Module):
    def forward(self, x):
        return x

class Narrow(nn.Linear):
    def __init__(self, num_outputs):
        super().__init__(5, num_outputs)

def nothing():
    return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda name, *more: make(
        "model=custom", f"model._target_=own_models.{name}", "allow_modules=[own_models]", "data.limit=64", *more
    )
    sys.modules.pop("own_models", None)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_layers_of_a_users_model_get_the_shape_of_the_data(own: Any) -> None:
    run, same = own("Lazy", "+model.hidden=6"), own("Lazy", "+model.hidden=6")
    shapes = {name: tuple(p.shape) for name, p in run.state["params"].items() if p.ndim == 2}
    assert shapes == {"layers.1.weight": (6, 64), "layers.3.weight": (10, 6)}
    losses = advance(run, 10)
    assert losses[-1] < losses[0]
    assert advance(same, 10) == losses, "the seed determines the initial weights of lazy layers"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Wrong", r"model._target_=own_models.Wrong gives \(2, 1, 8, 8\) .* and \(2, 10\) is wanted"),
        ("Narrow", r"model._target_=own_models.Narrow cannot take these data \(image, a batch of \(2, 1, 8, 8\)"),
        ("nothing", r"gives a NoneType, no torch.nn.Module"),
    ],
)
def test_a_users_model_that_does_not_fit_is_refused(own: Any, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own(name)


def test_a_custom_model_without_a_class_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"model\._target_ is missing"):
        make("model=custom")


@pytest.mark.parametrize(
    ("option", "info", "settings", "message"),
    [
        ("resnet9", FEATURES, {}, "Type model=mlp"),
        ("resnet9", DIGITS, {"width": 0}, "model.width=0 is out of range"),
        ("resnet9", DIGITS, {"logit_scale": 0.0}, "model.logit_scale=0.0 is out of range"),
        ("resnet9", DIGITS, {"pool": "avg"}, "model.pool=avg is not an option. Allowed: max"),
        ("convnet", TEXT, {}, "model=transformer for tokens"),
        ("convnet", FEATURES, {}, "Type model=mlp"),
        ("convnet", DIGITS, {"width": 0}, "model.width=0 is out of range"),
        ("mlp", TEXT, {}, "Type model=transformer"),
        ("mlp", DIGITS, {"depth": -1}, "model.depth=-1 is out of range"),
        ("transformer", DIGITS, {}, "Type model=convnet for images"),
        ("transformer", FEATURES, {}, "Type model=mlp"),
        ("transformer", TEXT, {"width": 30}, "model.width=30 is no multiple of model.heads=4. Type model.width=28"),
        ("transformer", TEXT, {"dropout": 1.0}, "model.dropout=1.0 is out of range"),
        ("torchvision", DIGITS, {"name": "resnet81"}, "Did you mean resnet18"),
        ("torchvision", DIGITS, {"stem": "tiny"}, "model.stem=tiny is not an option"),
        ("torchvision", DIGITS, {"name": "vgg11", "stem": "small"}, "model.stem=small is for ResNets; vgg11 is none"),
        ("torchvision", DIGITS, {"stem": "small", "pretrained": True}, "Type model.stem=imagenet"),
        ("torchvision", DIGITS, {"arguments": {"wdith": 2}}, "wdith"),
        ("torchvision", DIGITS, {"name": "alexnet"}, "model.name=alexnet cannot take these data"),
        ("torchvision", FEATURES, {}, "reads images"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused_with_the_fix(
    option: str, info: Info, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model_from(option, info, **settings)


def test_unknown_timm_name_has_a_suggestion() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="Did you mean resnet18"):
        model_from("timm", DIGITS, name="resnett18")


def test_residual_adds_branch_and_shortcut() -> None:
    x = torch.randn(3, 4)
    branch, shortcut = nn.Linear(4, 2), nn.Linear(4, 2)
    torch.testing.assert_close(Residual(branch, shortcut)(x), branch(x) + shortcut(x))
    torch.testing.assert_close(Residual(nn.Linear(4, 4))(torch.zeros(1, 4)).shape, torch.Size([1, 4]))
