"""Transforms of torchvision: the same as in a DataLoader's hands, exact on resume, alone and in a stack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract import advance, assert_resumes_exactly, largest_difference, make
from torchvision.transforms import InterpolationMode, v2

from mltricks.stack.run import StackedRun
from mltricks.state import HOST, fold

ON = "technique=[torchvision]"
NODE = "{name: TrivialAugmentWide}"
ROTATE = "technique.torchvision.transforms=[{name: RandomRotation, degrees: 30}]"


def test_every_sample_is_transformed_as_torchvision_does() -> None:
    run, plain = make(ON, ROTATE), make()
    batch, raw = next(run.batches(7)), next(plain.batches(7))["x"]
    torch.manual_seed(fold(run.cfg["seed"], HOST, 7))
    rotate = v2.RandomRotation(30)
    expected = torch.stack([rotate(one) for one in raw])
    assert torch.equal(batch["x"], expected)
    assert not torch.equal(batch["x"], raw)


def test_a_name_alone_is_enough() -> None:
    by_name, by_node = (make(ON, f"technique.torchvision.transforms=[{t}]") for t in ("TrivialAugmentWide", NODE))
    assert torch.equal(next(by_name.batches(7))["x"], next(by_node.batches(7))["x"])


def test_one_draw_for_a_batch_is_torchvisions_own_call_on_a_batch() -> None:
    overrides = (
        "technique.torchvision.per_sample=false",
        "technique.torchvision.transforms=[{name: RandomAffine, degrees: [-40, 40], interpolation: bilinear}]",
    )
    batch, raw = next(make(ON, *overrides).batches(2)), next(make().batches(2))["x"]
    torch.manual_seed(fold(0, HOST, 2))
    assert torch.equal(batch["x"], v2.RandomAffine((-40, 40), interpolation=InterpolationMode.BILINEAR)(raw))


def test_transforms_may_hold_transforms() -> None:
    nested = "{name: RandomApply, p: 0.5, transforms: [{name: RandomInvert, p: 1.0}]}"
    run = make(ON, f"technique.torchvision.transforms=[{nested}]")
    batch, raw = next(run.batches()), next(make().batches())["x"]
    turned = (batch["x"] == 255 - raw).flatten(1).all(1)
    assert 0 < int(turned.sum()) < len(raw)
    assert torch.equal(batch["x"][~turned], raw[~turned])


def test_trials_of_one_seed_and_of_several_get_their_own_draws() -> None:
    for seeds in ((3, 3), (3, 4)):
        members = [[ON, ROTATE, f"seed={s}", f"optim.lr={lr}"] for s, lr in zip(seeds, (1e-3, 3e-3), strict=True)]
        stacked = StackedRun([make(*member) for member in members])
        stacked.advance(3)
        for k, member in enumerate(members):
            alone = make(*member)
            advance(alone, 3)
            assert largest_difference(stacked.row(k), alone.state) < 1e-5


def test_augment_is_the_same_as_the_technique() -> None:
    a, b = make("augment=torchvision", ROTATE), make(ON, ROTATE)
    assert torch.equal(next(a.batches())["x"], next(b.batches())["x"])


def test_it_resumes_exactly_with_what_draws_in_the_step(tmp_path: Path) -> None:
    assert_resumes_exactly(["technique=[mixup,torchvision,cutout]", ROTATE], 3, 5, tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("transforms", "said"),
    [
        ("[]", "changes nothing"),
        ("[{degrees: 3}]", "names no transform"),
        ("[{name: RandomRotations, degrees: 3}]", "Did you mean RandomRotation"),
        ("[{name: RandomRotation, degree: 3}]", "takes no degree. Did you mean degrees"),
        ("[{name: RandomRotation, degrees: -3}]", "refuses"),
        ("[{name: RandomRotation, degrees: 3, interpolation: cubic}]", "Did you mean bicubic"),
        ("[{name: Resize, size: 5}]", "makes (1, 5, 5) torch.uint8 of images (1, 8, 8)"),
        ("[{name: ToImage}, {name: Normalize, mean: [0.5], std: [0.5]}]", "cannot transform images"),
        ("[{name: ToPILImage}]", "images"),
        ("[{name: MixUp}]", "technique=mixup"),
        ("[{name: Lambda}]", "takes a function"),
        ("[{name: RandomApply, transforms: [{name: Nothing}]}]", "transforms[0].transforms[0]: Nothing"),
    ],
)
def test_what_cannot_be_used_is_refused(transforms: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        make(ON, f"technique.torchvision.transforms={transforms}")
    assert said in str(error.value)
