"""RandAugment, TrivialAugment, AutoAugment, AugMix, colour jitter and affine: ranges, draws, and what they refuse."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from contract import advance, make
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from mltricks.functional.images import levels, policies, spaces
from mltricks.functional.images.autoaugment_policies import POLICIES
from mltricks.functional.images.hue import shift_hue
from mltricks.functional.images.operations import GEOMETRIC, STRENGTHENED, SWITCHED, Space, choose, perform
from mltricks.functional.images.pixels import on_pixels
from mltricks.techniques import augmix
from mltricks.techniques.affine import Affine
from mltricks.techniques.augmix import Augmix, jensen_shannon
from mltricks.techniques.autoaugment import Autoaugment
from mltricks.techniques.color_jitter import ColorJitter
from mltricks.techniques.randaugment import Randaugment
from mltricks.techniques.trivialaugment import Trivialaugment

CTX: Any = None
"""A context; the batch verbs of these techniques use none."""
THEIRS = {
    "Identity": "identity",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Rotate": "rotate",
    "Brightness": "brightness",
    "Color": "saturation",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "AutoContrast": "autocontrast",
    "Equalize": "equalize",
    "Invert": "invert",
}
"""torchvision's names of the operations, and ours."""


def images(count: int = 60, channels: int = 3, side: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, side, side, channels), dtype=torch.uint8, generator=generator)
    return x.permute(0, 3, 1, 2)


# Ranges


@pytest.mark.parametrize(
    ("theirs", "ours", "bins"),
    [
        (v2.RandAugment._AUGMENTATION_SPACE, spaces.randaugment_space(28, 32), 31),
        (v2.TrivialAugmentWide._AUGMENTATION_SPACE, spaces.trivialaugment_space(wide=True), 31),
        (v2.AutoAugment._AUGMENTATION_SPACE, {**spaces.autoaugment_space(28, 32), "identity": None}, 10),
    ],
)
def test_every_range_is_that_of_torchvision(theirs: Any, ours: Space, bins: int) -> None:
    assert {THEIRS[name] for name in theirs} | {"identity"} == set(ours)
    level = torch.arange(bins) / (bins - 1)
    for their_name, (magnitudes, signed) in theirs.items():
        name, expected = THEIRS[their_name], magnitudes(bins, 28, 32)
        span = ours[name]
        if expected is None:
            assert span is None
            continue
        assert span is not None
        assert span.signed == signed
        found = [span.amounts(level, torch.full_like(level, sign)) for sign in (1.0, -1.0)]
        unit = {"solarize": 255.0}.get(name, 1.0)  # theirs is a share of the largest value
        offset = 1.0 if name in ("brightness", "saturation", "contrast", "sharpness") else 0.0  # theirs is added to 1
        if name.startswith("translate"):  # theirs becomes an int later; half of 32 is 15.999999 to it
            expected = (expected + 1e-4).trunc()
        for sign, amounts in zip((1, -1 if signed else 1), found, strict=True):
            assert torch.allclose(amounts, offset + sign * unit * expected, atol=1e-5)


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "svhn"])
def test_a_policy_of_autoaugment_is_that_of_torchvision(name: str) -> None:
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy(name))._policies
    assert [[(THEIRS[op], p, level or 0) for op, p, level in pair] for pair in theirs] == [
        list(pair) for pair in POLICIES[name]
    ]


def test_the_standard_space_and_that_of_augmix_are_those_of_the_authors() -> None:
    standard = spaces.trivialaugment_space(wide=False)
    one, half = torch.ones(1), torch.full((1,), 0.26)
    strongest = {name: float(span.amounts(one, one)) for name, span in standard.items() if span}
    assert strongest["shear_x"] == pytest.approx(0.3)
    assert (strongest["translate_x"], strongest["translate_y"], strongest["rotate"]) == (10, 10, 30)
    assert (strongest["posterize"], strongest["solarize"]) == (4, 0)
    assert strongest["brightness"] == pytest.approx(1.9)
    mixed = spaces.augmix_space(32, 32, all_ops=True)
    gentle = {name: float(span.amounts(half, one)) for name, span in mixed.items() if span}
    whole = {"posterize": 4 - 1, "rotate": 7, "solarize": 256 - 66, "translate_x": 2, "translate_y": 2}
    assert {name: gentle[name] for name in whole} == whole
    assert gentle["contrast"] == pytest.approx(0.26 * 1.8 + 0.1)
    assert set(mixed) - set(spaces.augmix_space(32, 32, all_ops=False)) == {
        *("brightness", "contrast", "saturation", "sharpness")
    }


def test_the_space_of_timm_has_its_ranges() -> None:
    from timm.data import auto_augment as timm

    names = {
        "rotate": "Rotate",
        "posterize": "PosterizeIncreasing",
        "solarize": "SolarizeIncreasing",
        "solarize_add": "SolarizeAdd",
        "saturation": "ColorIncreasing",
        "contrast": "ContrastIncreasing",
        "brightness": "BrightnessIncreasing",
        "sharpness": "SharpnessIncreasing",
        "shear_x": "ShearX",
        "shear_y": "ShearY",
        "translate_x": "TranslateXRel",
        "translate_y": "TranslateYRel",
        "autocontrast": "AutoContrast",
        "equalize": "Equalize",
        "invert": "Invert",
    }
    space = spaces.timm_space(1, 1)  # shares of the side
    assert {names[name] for name in space} == set(timm._RAND_INCREASING_TRANSFORMS)
    for name, span in space.items():
        if span is None:
            assert timm.LEVEL_TO_ARG[names[name]] is None
            continue
        for level in (0.0, 2.0, 4.9, 9.0, 10.0):
            theirs = timm.LEVEL_TO_ARG[names[name]](level, {})[0]
            ours = [float(span.amounts(torch.tensor(level / 10), torch.tensor(sign))) for sign in (1.0, -1.0)]
            assert min(abs(one - theirs) for one in ours) < 1e-5, name


# Draws


def test_every_image_meets_each_policy_equally_often_and_comes_back_to_its_place() -> None:
    counts, names = torch.zeros(7, 3), [["a"], ["b"], ["c"]]
    for seed in range(300):
        torch.manual_seed(seed)

        def marked(x: Tensor, place: int, order: list[int]) -> Tensor:
            return x + 10 * (1 + torch.tensor(order).repeat_interleave(len(x) // 3)).view(-1, 1, 1, 1)

        found = policies.through_policies(torch.arange(7).view(7, 1, 1, 1), names, marked).flatten()
        assert torch.equal(found % 10, torch.arange(7))
        drawn = found // 10 - 1
        assert sorted(drawn.bincount(minlength=3).tolist()) == [2, 2, 3]
        counts[torch.arange(7), drawn] += 1
    assert float(((counts - 100).square() / 100).sum()) < 36.1  # 14 degrees of freedom, p = 0.001


def test_the_operations_of_a_policy_follow_each_other_whatever_the_order_of_blocks() -> None:
    pairs = [["add", "double"], ["double", "add"], ["add", "add"], ["double", "double"]]

    def calculate(x: Tensor, place: int, order: list[int]) -> Tensor:
        assert [pairs[i][place] for i in order] == sorted(pair[place] for pair in pairs)
        parts = zip(x.chunk(len(order)), order, strict=True)
        return torch.cat([part + 1 if pairs[i][place] == "add" else part * 2 for part, i in parts])

    torch.manual_seed(0)
    found = policies.through_policies(torch.full((4, 1, 1, 1), 5), pairs, calculate)
    assert sorted(found.flatten().tolist()) == [7, 11, 12, 20]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_parts_of_a_batch_get_the_operation_of_their_name(channels: int) -> None:
    space = spaces.autoaugment_space(12, 12)
    names = sorted(space)
    x = images(2 * len(names), channels).contiguous()
    level = torch.full((len(x),), 0.7)
    torch.manual_seed(5)
    found = perform(x, names, space, level, fill=7).chunk(len(names))
    torch.manual_seed(5)
    sign = torch.where(torch.rand(len(x)) < 0.5, 1.0, -1.0)
    rows = zip(names, found, x.chunk(len(names)), sign.chunk(len(names)), strict=True)
    for name, part, before, signs in rows:
        if name in SWITCHED:
            assert torch.equal(part, SWITCHED[name](before))
            continue
        amount = space[name].amounts(level[:2], signs)
        if name in GEOMETRIC:
            expected = torch.stack([warped(name, a, float(v), 7) for a, v in zip(before, amount, strict=True)])
        else:
            expected = STRENGTHENED[name](before, amount)
        assert torch.equal(part, expected), name


def warped(name: str, x: Tensor, amount: float, fill: int) -> Tensor:
    """A geometric operation by torchvision's own RandAugment."""
    their = next(key for key, value in THEIRS.items() if value == name)
    transform = v2.RandAugment(fill=fill)
    return transform._apply_image_or_video_transform(
        x, their, amount, interpolation=transform.interpolation, fill=transform._fill
    )


@pytest.mark.parametrize(
    ("technique", "shares"),
    [
        (Randaugment(1, 30.0, "torchvision", 1.0, 0), {"rotate": 1 / 14, "equalize": 1 / 14}),
        (Randaugment(1, 30.0, "torchvision", 0.5, 0), {"equalize": 0.5 / 14}),
        (Trivialaugment("wide", 0.5, 0), {"equalize": 0.5 / 14, "autocontrast": 0.5 / 14}),
    ],
)
def test_an_operation_is_applied_as_often_as_its_probability_says(technique: Any, shares: dict[str, float]) -> None:
    x = images(1400, side=20) // 2  # so that autocontrast and equalize change every image
    torch.manual_seed(0)
    found = technique.batch({"x": x}, CTX)["x"]
    for name, share in shares.items():
        if name in SWITCHED:
            hits = float((found == SWITCHED[name](x)).flatten(1).all(1).sum())
            assert hits == pytest.approx(1400 * share, abs=4 * (1400 * share) ** 0.5)


def test_the_first_operation_of_autoaugment_has_its_probability_and_its_level() -> None:
    x = images(5000, side=6).contiguous()
    torch.manual_seed(0)
    found = Autoaugment("svhn", 1.0, 0).batch({"x": x}, CTX)["x"]
    inverted = (found == 255 - x).flatten(1).all(1).float().mean()
    pairs = POLICIES["svhn"]  # where invert alone is applied; small images are never equalized
    alone = [
        p1 * (1 - p2) if first == "invert" else (1 - p1) * p2 if second == "invert" else 0.0
        for (first, p1, _), (second, p2, _) in pairs
    ]
    alone = [p / (1 - q2) if second == "equalize" else p for p, (_, (second, q2, _)) in zip(alone, pairs, strict=True)]
    assert float(inverted) == pytest.approx(sum(alone) / 25, abs=0.02)


def test_jitter_follows_torchvision_step_by_step_and_in_every_order() -> None:
    x = images(240, side=6).contiguous()
    jitter = ColorJitter(0.5, 0.5, 0.5, 0.2, 1.0, 0.0)
    torch.manual_seed(0)
    found, drawn = jitter.changed(x), set()
    torch.manual_seed(0)
    source, slot = policies.assign(240, 24, x.device)
    assert len(source) == 240
    # the factors of each image, in the order in which they are drawn
    orders = list(permutations(("brightness", "contrast", "saturation", "hue")))
    steps: list[list[tuple[str, float]]] = [[] for _ in range(240)]
    for place in range(4):
        blocks = sorted(range(24), key=lambda i: orders[i][place])
        for name in ("brightness", "contrast", "hue", "saturation"):
            members = [i for i in blocks if orders[i][place] == name]
            draws = torch.rand(10 * len(members))
            for k, block in enumerate(members):
                for row in range(10):
                    u = float(draws[10 * k + row])
                    steps[10 * block + row].append((name, (2 * u - 1) * 0.2 if name == "hue" else 0.5 + u))
    theirs = {
        "brightness": tv.adjust_brightness,
        "contrast": tv.adjust_contrast,
        "saturation": tv.adjust_saturation,
        "hue": tv.adjust_hue,
    }
    far = 0
    for image in range(240):
        expected, applied = x[image], steps[int(slot[image])]
        drawn.add(tuple(name for name, _ in applied))
        for name, value in applied:
            expected = theirs[name](expected, value)
        distance = (found[image].int() - expected.int()).abs()
        assert int(distance.max()) <= 3  # a level that hue rounds differently may be stretched by a later contrast
        far += int((distance > 0).sum())
    assert far / found.numel() < 2e-3
    assert drawn == set(orders)


def test_grey_jitter_has_two_operations_and_half_of_the_images_may_become_grey() -> None:
    torch.manual_seed(0)
    grey = images(200, channels=1)
    found = ColorJitter(0.4, 0.4, 0.9, 0.5, 1.0, 1.0).batch({"x": grey}, CTX)["x"]
    assert found.shape == grey.shape
    x = images(2000, side=4)
    found = ColorJitter(0.0, 0.0, 0.0, 0.0, 1.0, 0.5).batch({"x": x}, CTX)["x"]
    became = (found[:, 0] == found[:, 1]).flatten(1).all(1)
    assert torch.equal(found[~became], x[~became])
    assert torch.equal(found[became][:, :1], levels.grey(x[became]).byte())
    assert float(became.float().mean()) == pytest.approx(0.5, abs=0.045)


def test_affine_draws_are_uniform_in_their_ranges() -> None:
    x = torch.zeros(3000, 1, 21, 21, dtype=torch.uint8)
    x[:, :, 10, 10] = 200
    torch.manual_seed(0)
    found = Affine(0.0, 0.1, 1.0, 1.0, 0.0, "bilinear", 0).batch({"x": x}, CTX)["x"]
    counts = (found == 200).sum((0, 1))[8:13, 8:13].float()
    assert int(counts.sum()) == 3000  # moves are whole pixels, up to round(0.1 x 21)
    edge = torch.tensor([0.6, 1.0, 1.0, 1.0, 0.6]) / 4.2  # 2.1 pixels to either side, rounded
    expected = 3000 * edge[:, None] * edge
    assert float(((counts - expected).square() / expected).sum()) < 51.2  # 24 degrees of freedom, p = 0.001


# AugMix


def test_augmix_has_the_consistency_loss_of_timm() -> None:
    from timm.loss import JsdCrossEntropy

    torch.manual_seed(0)
    logits, y = torch.randn(12, 5) * 3, torch.tensor([0, 1, 2, 4])
    expected = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0)(logits, y)
    found = torch.nn.functional.cross_entropy(logits[:4], y) + 12 * jensen_shannon(list(logits.chunk(3)))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_the_consistency_loss_has_a_gradient_where_probabilities_are_0() -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 200.0, 0.0], [0.0, 1.0, 200.0]], requires_grad=True)
    loss = jensen_shannon([logits[:1], logits[1:2], logits[2:]])
    assert float(loss.detach()) == pytest.approx(math.log(3), rel=1e-6)
    assert bool(torch.autograd.grad(loss, logits)[0].isfinite().all())


def test_a_mixture_lies_between_its_chains_and_the_clean_image() -> None:
    x = images(500, side=6).contiguous()
    torch.manual_seed(0)
    plain = Augmix(12.0, 3.0, 3, 0, False)
    object.__setattr__(plain, "chains", lambda rows: torch.cat([part * 0 + 100 for part in rows.chunk(3)]))
    found = plain.mixtures(x).int()
    low, high = x.clamp(max=100).int(), x.clamp(min=100).int()
    assert bool(((found >= low - 1) & (found <= high + 1)).all())
    share = ((found - x) / (100.0 - x).where(x != 100, torch.nan))[(x.int() - 100).abs() > 60]
    assert float(share.mean()) == pytest.approx(0.5, abs=0.05)  # uniform


def test_a_chain_has_one_to_three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmix, "through_policies", lambda rows, names, perform: rows + 1)
    torch.manual_seed(0)
    chains = Augmix(12.0, 3.0, 1, 0, False).chains(torch.zeros(900, 1, 3, 3, dtype=torch.uint8))
    lengths = chains[:, 0, 0, 0].bincount(minlength=4)
    assert lengths[0] == 0
    assert float(((lengths[1:] - 300).square() / 300).sum()) < 13.8  # 2 degrees of freedom, p = 0.001
    fixed = Augmix(12.0, 3.0, 1, 5, False).chains(torch.zeros(9, 1, 3, 3, dtype=torch.uint8))
    assert torch.equal(fixed, torch.full_like(fixed, 5))


def test_the_objective_sees_the_clean_images_alone_and_the_model_all_of_them() -> None:
    run = make("technique=augmix", "technique.augmix.weight=0")
    clean = make()
    seen = []
    run.model.module.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    losses = advance(run, 1)
    assert seen == [48]
    assert losses == pytest.approx(advance(clean, 1), rel=1e-3)  # convnet's batch norm sees the mixtures too


# All of them


ALL = {
    "randaugment": Randaugment(2, 20.0, "torchvision", 1.0, 0),
    "trivialaugment": Trivialaugment("standard", 1.0, 128),
    "autoaugment": Autoaugment("imagenet", 1.0, 0),
    "color_jitter": ColorJitter(0.4, 0.4, 0.4, 0.1, 0.8, 0.2),
    "affine": Affine(15.0, 0.1, 0.9, 1.1, 10.0, "bilinear", 0),
}


@pytest.mark.parametrize("name", ALL)
def test_images_keep_shape_type_and_layout_and_the_batch_is_left_as_it_was(name: str) -> None:
    for x in (images(5), images(3, channels=1), images(1), images(30).contiguous()):
        batch = {"x": x, "x_unlabeled": x.clone(), "y": torch.arange(len(x))}
        before = x.clone()
        torch.manual_seed(0)
        found = ALL[name].batch(batch, CTX)
        assert torch.equal(x, before)
        assert found["y"] is batch["y"]
        for key in ("x", "x_unlabeled"):
            assert found[key].shape == x.shape
            assert found[key].dtype == torch.uint8
            assert found[key].is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(found["x"], found["x_unlabeled"])


def test_data_with_another_white_are_stretched_and_shrunk_back() -> None:
    x = torch.arange(17, dtype=torch.uint8).view(1, 1, 1, 17)
    assert torch.equal(on_pixels(x, 16, lambda pixels: pixels), x)
    assert on_pixels(x, 16, levels.invert).flatten().tolist() == list(range(16, -1, -1))
    run = make("technique=randaugment")
    found = run.techniques["randaugment"].batch(next(run.source.stream(0)), CTX)["x"]
    assert int(found.max()) <= 16


def test_a_choice_takes_whole_images() -> None:
    old, new = images(4), 255 - images(4)
    found = choose(torch.tensor([True, False, False, True]), new, old)
    assert torch.equal(found, torch.stack([new[0], old[1], old[2], new[3]]))


def test_hue_turns_red_to_green_in_a_third_of_a_turn() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert shift_hue(red, torch.tensor([1 / 3])).flatten().tolist() == [0, 255, 0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["technique=cutout+randaugment"], "Put randaugment before cutout"),
        (["technique=randaugment", "technique.randaugment.magnitude=31"], "technique.randaugment.magnitude=31"),
        (["technique=trivialaugment", "technique.trivialaugment.space=wild"], "Did you mean wide"),
        (["technique=autoaugment", "technique.autoaugment.policy=mnist"], "cifar10 | imagenet | svhn"),
        (["technique=affine", "technique.affine.min_scale=1.5"], "technique.affine.min_scale=1.1 or less"),
        (
            ["technique=color_jitter", "technique.color_jitter.brightness=0", "technique.color_jitter.contrast=0"],
            "change nothing on grey images",
        ),
        (["technique=augmix+mixup"], "Leave mixup out"),
        (["technique=cutmix+augmix"], "Leave cutmix out"),
    ],
)
def test_what_cannot_be_right_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError) as error:
        make(*overrides)
    assert said in str(error.value)
