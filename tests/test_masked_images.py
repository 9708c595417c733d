"""MAE and SimMIM: masks, losses and tokens compared with plain loops, lightly's helpers and the sources' formulas."""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import CLASSES, context, images, params_of, small_net
from contract import make
from torch import Tensor, nn

from mltricks.functional.patch_tokens import find_tokens, only, replaced
from mltricks.functional.patches import block_mask, keep_some, paint, patch_statistics, patchify, unpatchify
from mltricks.models.vit import ViT
from mltricks.objectives.classify import Classify
from mltricks.step import gradient, onion
from mltricks.technique import Ctx
from mltricks.techniques.mae import Mae, masked_mean
from mltricks.techniques.masked_image_modeling import MaskedImageModeling, block_in_patches, masked_error

MAE: dict[str, Any] = {
    "mask_percent": 75,
    "normalize_targets": True,
    "decoder_width": 8,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "probe": True,
}
SIMMIM: dict[str, Any] = {"mask_ratio": 0.6, "mask_size": None, "probe": True}
TECHNIQUES = {"mae": lambda **changes: Mae(**{**MAE, **changes})}
TECHNIQUES["masked_image_modeling"] = lambda **changes: MaskedImageModeling(**{**SIMMIM, **changes})


def vit(shape: tuple[int, ...] = (1, 8, 8), head_pool: str = "cls") -> ViT:
    torch.manual_seed(0)
    model = ViT(shape, CLASSES, patch=2, width=8, depth=2, heads=2, dropout=0.0, head_pool=head_pool)
    with torch.no_grad():
        for p in model.parameters():  # biases and the class token start at zero
            p.add_(0.3 * torch.randn_like(p))
    return model


def set_up(technique: Any, name: str, model: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], Ctx]:
    torch.manual_seed(5)
    params, own = technique.setup(model, params_of(model), {"x": x, "y": torch.zeros(len(x))}, 0)
    return params, context(model, {name: own}).scope(name)


@pytest.fixture(scope="module")
def lightly() -> ModuleType:
    pytest.importorskip("lightly")
    return importlib.import_module("lightly.models.utils")


def test_patches_and_their_normalisation_are_lightlys(lightly: ModuleType) -> None:
    x = torch.randn(2, 3, 8, 8)
    patches = patchify(x, 4)
    assert torch.equal(patches, lightly.patchify(x, 4))
    mean, std = patch_statistics(patches)
    torch.testing.assert_close((patches - mean) / std, lightly.normalize_mean_var(patches), rtol=0, atol=0)


def test_kept_patches_are_those_of_lightlys_mask(lightly: ModuleType) -> None:
    torch.manual_seed(3)
    keep, hidden = lightly.random_token_mask((5, 16), 0.75, mask_class_token=True)
    torch.manual_seed(3)
    kept = keep_some(5, 16, 4, torch.device("cpu"))
    assert torch.equal(kept.keep, keep)
    assert torch.equal(kept.mask.nonzero()[:, 1].view(5, 12), hidden.sort(1).values)


def test_kept_patches_are_those_of_a_plain_loop() -> None:
    torch.manual_seed(3)
    noise = torch.rand(6, 9).tolist()
    torch.manual_seed(3)
    kept = keep_some(6, 9, 2, torch.device("cpu"))
    for i, row in enumerate(noise):
        order = sorted(range(9), key=row.__getitem__)
        assert kept.keep[i].tolist() == order[:2]
        assert kept.mask[i].tolist() == [float(n not in order[:2]) for n in range(9)]
        assert [order[place] for place in kept.restore[i].tolist()] == list(range(9))


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 2), (4, 12, 4), (6, 9, 3), (4, 4, 1)])
def test_patches_go_back_to_the_image(height: int, width: int, side: int) -> None:
    x = torch.randn(2, 3, height, width)
    patches = patchify(x, side)
    assert patches.shape == (2, height * width // side**2, 3 * side * side)
    assert torch.equal(unpatchify(patches, side, height // side), x)
    second = x[0, :, :side, side : 2 * side] if width > side else x[0, :, side : 2 * side, :side]
    assert torch.equal(patches[0, 1], second.permute(1, 2, 0).flatten())


@pytest.mark.parametrize("head_pool", ["cls", "mean"])
@pytest.mark.parametrize("normalize", [True, False])
def test_mae_is_that_of_plain_loops(head_pool: str, normalize: bool) -> None:
    """Tokens, mask tokens and losses sample by sample and patch by patch, with the same weights and draws."""
    model, x = vit((2, 8, 8), head_pool), images(3, shape=(2, 8, 8))["x"]
    technique = Mae(**{**MAE, "normalize_targets": normalize, "probe": False})
    params, ctx = set_up(technique, "mae", model, x)
    torch.manual_seed(7)
    kept = keep_some(3, 16, 4, x.device)
    decoder = technique.decoder.module
    decoder.load_state_dict({name[4:]: p for name, p in params.items() if name.startswith("mae/")})
    extra, total = int(head_pool == "cls"), 0.0
    for i in range(3):
        tokens = model.patches(x[i : i + 1]).flatten(2)[0].T
        tokens = tokens if model.cls is None else torch.cat([model.cls[0], tokens])
        tokens = tokens + model.position_embedding
        seen = torch.stack([*tokens[:extra], *(tokens[extra + n] for n in kept.keep[i])])
        encoded = decoder.embed(model.norm(model.blocks(seen[None])))[0]
        places = kept.keep[i].tolist()
        full = [encoded[extra + places.index(n)] if n in places else decoder.mask_token for n in range(16)]
        full = [token + place for token, place in zip(full, ctx.own["positions"], strict=True)]
        out = decoder.pixels(decoder.norm(decoder.blocks(torch.stack([*encoded[:extra], *full])[None])))[0, extra:]
        for n in range(16):
            target = x[i, :, n // 4 * 2 :, n % 4 * 2 :][:, :2, :2].permute(1, 2, 0).flatten()
            target = (target - target.mean()) / (target.var() + 1e-6).sqrt() if normalize else target
            total = total + float(n not in places) * (out[n] - target).square().mean()
    expected = torch.autograd.grad(total / (3 * 12), [model.patches.weight, decoder.mask_token])
    torch.manual_seed(7)
    grads, aux = gradient(technique.loss(Classify()))(params, {"x": x}, ctx)
    torch.testing.assert_close(aux["metrics"]["loss"], (total / 36).detach())
    torch.testing.assert_close(grads["patches.weight"], expected[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(grads["mae/mask_token"], expected[1], rtol=1e-4, atol=1e-7)


def test_the_loss_of_mae_is_that_of_hidden_patches_alone() -> None:
    difference = torch.ones(2, 4, 6) * 3
    mask = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
    assert float(masked_mean(difference.masked_fill(mask[:, :, None] == 0, 1e6), mask)) == 9.0


def test_positions_of_the_decoder_are_the_authors_in_another_order() -> None:
    technique = Mae(**MAE)
    _, ctx = set_up(technique, "mae", vit(), images(2)["x"])
    frequency = 1.0 / 10000 ** (torch.arange(2) / 2)
    for n, row in enumerate(ctx.own["positions"]):
        angles = [place * frequency for place in divmod(n, 4)]
        expected = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)])
        torch.testing.assert_close(row.sort().values, expected.sort().values)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.6, 0.75])
def test_block_masks_cover_whole_blocks_in_the_sources_number(ratio: float) -> None:
    torch.manual_seed(0)
    mask = block_mask(50, 6, 4, 2, ratio, torch.device("cpu"))
    torch.manual_seed(0)
    assert torch.equal(mask, block_mask(50, 6, 4, 2, torch.tensor(ratio), torch.device("cpu"))), "a schedule's value"
    blocks = mask.view(50, 3, 2, 2, 2).permute(0, 1, 3, 2, 4).flatten(3)
    assert torch.equal(blocks.amin(3), blocks.amax(3))
    assert blocks[..., 0].sum((1, 2)).tolist() == [math.ceil(6 * ratio)] * 50
    share = blocks[..., 0].mean(0)
    assert float((share - math.ceil(6 * ratio) / 6).abs().max()) < 0.25, "every block is masked as often"


def test_a_share_that_is_a_whole_number_of_blocks_is_that_in_any_precision() -> None:
    """0.6 of 25 is 15.000001 in single precision, which a schedule and the traced engine compute in."""
    for ratio in (0.6, torch.tensor(0.6)):
        assert float(block_mask(1, 5, 5, 1, ratio, torch.device("cpu")).sum()) == 15


def test_the_ratio_that_a_message_proposes_is_accepted() -> None:
    torch.manual_seed(0)
    model = ViT((1, 7, 7), CLASSES, patch=1, width=8, depth=1, heads=2, dropout=0.0, head_pool="mean")
    x = images(2, shape=(1, 7, 7))["x"]
    with pytest.raises(ValueError, match=r"mask_ratio=0\.99 masks all.*Type technique\.\S+mask_ratio=0\.979592"):
        set_up(TECHNIQUES["masked_image_modeling"](mask_ratio=0.99), "masked_image_modeling", model, x)
    set_up(TECHNIQUES["masked_image_modeling"](mask_ratio=0.979592), "masked_image_modeling", model, x)


def test_simmim_is_the_sources_formula_with_its_head() -> None:
    """Mask token before positions; a 1x1 convolution and a pixel shuffle; L1 over masked pixels, divided by C."""
    model, x = vit((3, 8, 8)), images(4, shape=(3, 8, 8))["x"]
    technique = MaskedImageModeling(**{**SIMMIM, "probe": False})
    params, ctx = set_up(technique, "masked_image_modeling", model, x)
    torch.manual_seed(7)
    mask = block_mask(4, 4, 4, 2, 0.6, x.device)
    own = {name.partition("/")[2]: p for name, p in params.items() if "/" in name}
    token = own["mask_token"].requires_grad_()
    w = mask.unsqueeze(2)
    tokens = model.patches(x).flatten(2).transpose(1, 2) * (1 - w) + token.expand(4, 16, -1) * w
    tokens = torch.cat([model.cls.expand(4, 1, -1), tokens], 1) + model.position_embedding
    encoded = model.norm(model.blocks(tokens))[:, 1:].transpose(1, 2).reshape(4, 8, 4, 4)
    head = nn.Conv2d(8, 12, 1)
    by_channel = torch.arange(12).view(2, 2, 3).permute(2, 0, 1).flatten()  # PixelShuffle has the channel first
    head.weight.data = own["pixels.weight"][by_channel, :, None, None]
    head.bias.data = own["pixels.bias"][by_channel]
    rebuilt = nn.PixelShuffle(2)(head(encoded))
    pixels = mask.view(4, 4, 4).repeat_interleave(2, 1).repeat_interleave(2, 2).unsqueeze(1)
    loss = (F.l1_loss(x, rebuilt, reduction="none") * pixels).sum() / (pixels.sum() + 1e-5) / 3
    torch.manual_seed(7)
    grads, aux = gradient(technique.loss(Classify()))(params, {"x": x}, ctx)
    torch.testing.assert_close(aux["metrics"]["loss"], loss.detach())
    expected = torch.autograd.grad(loss, [token, model.patches.weight])
    torch.testing.assert_close(grads["masked_image_modeling/mask_token"], expected[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(grads["patches.weight"], expected[1], rtol=1e-4, atol=1e-7)


def test_the_loss_of_simmim_is_that_of_masked_pixels_alone() -> None:
    patches, mask = torch.randn(2, 4, 12), torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    guess = torch.where(mask[:, :, None] > 0, patches + 2, patches + 1e6)
    assert float(masked_error(guess, patches, mask, 3)) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_features_learn_nothing_from_the_labels(name: str) -> None:
    batch, model = images(6), vit()
    technique = TECHNIQUES[name]()
    params, ctx = set_up(technique, name, model, batch["x"])
    found = []
    for y in (batch["y"], batch["y"].roll(1)):
        torch.manual_seed(6)
        grads, aux = gradient(onion({name: technique}, "loss", Classify()))(params, {**batch, "y": y}, ctx)
        assert {"accuracy", "reconstruction_loss", "feature_std", "feature_rank"} <= aux["metrics"].keys()
        found.append(grads)
    for key in params:
        assert torch.equal(found[0][key], found[1][key]) is not key.startswith("head."), key


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_reconstruction_keeps_what_the_model_saw(name: str) -> None:
    model, x = vit(), images(5)["x"]
    technique = TECHNIQUES[name]()
    params, ctx = set_up(technique, name, model, x)
    found = technique.reconstruct(params, x, ctx)
    before, masked, after = found.steps.values()
    seen = masked != 0
    share = {"mae": 0.25, "masked_image_modeling": 0.25}[name]  # of 4 blocks, 3 are masked
    assert float(seen.float().mean()) == share
    assert torch.equal(before[seen], after[seen])
    assert torch.equal(before, x)
    assert not torch.equal(before, after)


def test_a_reconstruction_of_mae_is_in_the_units_of_the_image() -> None:
    """With the normalised patch itself as the prediction, the picture is the image."""
    model, x = vit(), images(5)["x"]
    technique = Mae(**MAE)
    params, ctx = set_up(technique, "mae", model, x)
    perfect = technique.patches_to_predict(x), torch.zeros(5, 8)
    object.__setattr__(technique, "predict", lambda *_: perfect)
    found = technique.reconstruct(params, x, ctx)
    torch.testing.assert_close(found.steps["reconstruction"], x)
    assert float(found.error) == 0.0
    assert 0.7 < float(found.trivial) < 0.8, "4 values a patch: the unbiased variance is 1, the biased one 3/4"


def of_timm() -> tuple[nn.Module, Any]:
    timm = pytest.importorskip("timm")
    sizes = {"embed_dim": 8, "depth": 2, "num_heads": 2}
    model = timm.models.VisionTransformer(img_size=32, in_chans=1, num_classes=CLASSES, **sizes)
    return model, lambda x, at: model.norm(model.blocks(model._pos_embed(model.patch_embed(x)).gather(1, at)))


def of_torchvision() -> tuple[nn.Module, Any]:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=CLASSES)
    model.conv_proj = nn.Conv2d(1, 8, 16, 16)
    nn.init.normal_(model.heads.head.weight)

    def encoded(x: Tensor, at: Tensor) -> Tensor:
        tokens = torch.cat([model.class_token.expand(len(x), -1, -1), model._process_input(x)], 1)
        return model.encoder.ln(model.encoder.layers((tokens + model.encoder.pos_embedding).gather(1, at)))

    return model, encoded


@pytest.mark.parametrize("made", [of_timm, of_torchvision])
def test_vision_transformers_of_other_libraries_see_the_kept_patches(made: Any) -> None:
    model, encoded = made()
    x = images(2, shape=(1, 32, 32))["x"]
    technique = Mae(**MAE)
    params, ctx = set_up(technique, "mae", model, x)
    assert (technique.tokens.side, technique.tokens.num, technique.tokens.extra, technique.num_kept) == (16, 4, 1, 1)
    kept = keep_some(2, 4, 1, x.device)
    heard: dict[str, Tensor] = {}
    embed = technique.decoder.module.embed
    embed.register_forward_hook(lambda _, inputs, __: heard.update(tokens=inputs[0]))
    technique.predict(params, x, kept, ctx)
    at = torch.cat([torch.zeros(2, 1, dtype=torch.int64), kept.keep + 1], 1).unsqueeze(2)
    torch.testing.assert_close(heard["tokens"], encoded(x, at.expand(-1, -1, technique.tokens.width)))
    simmim = MaskedImageModeling(**SIMMIM)
    assert simmim.setup(model, params_of(model), {"x": x}, 0)[0]["masked_image_modeling/pixels.weight"].shape[0] == 256


def test_models_without_tokens_are_refused() -> None:
    x = images(2)["x"]
    for model in (small_net(), nn.Sequential(vit(), nn.Flatten())):
        with pytest.raises(ValueError, match=r"technique=mae hides patches .* Type model=vit\."):
            find_tokens("mae", model, params_of(model), x)
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 32, "patch_size": 16, "in_chans": 1, "embed_dim": 16, "depth": 1, "num_heads": 2}
    rotary = timm.models.eva.Eva(**sizes, use_rot_pos_emb=True)
    with pytest.raises(ValueError, match="technique=mae hides patches from a vision transformer, and Eva is none"):
        find_tokens("mae", rotary, params_of(rotary), images(2, shape=(1, 32, 32))["x"])


@pytest.mark.parametrize("name", TECHNIQUES)
def test_other_models_are_refused_by_the_run(name: str) -> None:
    with pytest.raises(ValueError, match=rf"technique={name} .* Type model=vit\."):
        make(f"technique={name}")


def patches_of(side: int) -> ViT:
    return ViT((1, 8, 8), CLASSES, patch=side, width=4, depth=1, heads=1, dropout=0.0, head_pool="mean")


@pytest.mark.parametrize(
    ("patch", "name", "changes", "message"),
    [
        (4, "mae", {"mask_percent": 80}, r"leaves none of 4 patches\. Type technique\.mae\.mask_percent=75"),
        (8, "mae", {}, r"mask_percent=75 leaves none of 1 patches\. Type a smaller model\.patch"),
        (1, "mae", {}, "normalize_targets=true needs patches of two values or more"),
        (2, "mae", {"decoder_width": 6, "decoder_heads": 4}, r"no multiple of decoder_heads\. .*decoder_width=8"),
        (2, "mae", {"decoder_width": 6}, r"decoder_width=6 is no multiple of 4, .*decoder_width=8"),
        (2, "masked_image_modeling", {"mask_size": 3}, r"not fit images of 8x8 pixels .* Allowed: 2 \| 4 \| 8"),
        (2, "masked_image_modeling", {"mask_ratio": 0.8}, r"masks all blocks of 4 pixels, of which an image has 4\."),
    ],
)
def test_settings_that_do_not_fit_the_patches_are_refused(
    patch: int, name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        set_up(TECHNIQUES[name](**changes), name, patches_of(patch), images(2)["x"])


@pytest.mark.parametrize(("side", "patch", "blocks"), [(8, 4, 1), (8, 2, 2), (32, 4, 2), (28, 4, 1), (28, 2, 2)])
def test_the_usual_block_is_two_patches_or_one(side: int, patch: int, blocks: int) -> None:
    model = ViT((1, side, side), CLASSES, patch=patch, width=4, depth=1, heads=1, dropout=0.0, head_pool="mean")
    tokens = find_tokens("mae", model, params_of(model), images(2, shape=(1, side, side))["x"])
    assert block_in_patches(tokens, None) == blocks


def test_a_mask_of_patches_is_painted_on_its_pixels() -> None:
    assert paint(torch.tensor([[0.0, 1, 1, 0]]), 2, 2)[0, 0].tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
    ]


def test_rows_that_another_technique_adds_are_masked_as_the_first_ones() -> None:
    tokens, kept = torch.randn(5, 9, 3), keep_some(2, 8, 3, torch.device("cpu"))
    found = only(kept.keep, 1)(tokens)
    assert found.shape == (5, 4, 3)
    for i, row in enumerate(found):
        assert torch.equal(row, tokens[i, [0, *(kept.keep[i % 2] + 1).tolist()]])
    mask, token = kept.mask, torch.zeros(3)
    as_map = replaced(mask, token)(tokens[:, 1:].transpose(1, 2).unflatten(2, (2, 4)))
    as_rows = replaced(mask, token)(tokens[:, 1:])
    assert torch.equal(as_map.flatten(2).transpose(1, 2), as_rows)
    for i, row in enumerate(as_rows):
        assert torch.equal(row, tokens[i, 1:] * (1 - mask[i % 2]).unsqueeze(1))
