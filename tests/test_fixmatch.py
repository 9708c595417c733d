"""FixMatch: closed forms of its loss term, thresholds 0 and 1, its views, and the command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, small_net
from contract import make
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.newer import with_newer
from mltricks.figures.parts import Text
from mltricks.functional.pseudo_labels import consistency
from mltricks.functional.strong_augment import OPERATIONS, apply_operation, cut_out, strong_augment
from mltricks.functional.views import flip_and_shift
from mltricks.objectives.classify import Classify
from mltricks.observers.run_page.data_card import samples_section
from mltricks.step import gradient, onion
from mltricks.techniques.fixmatch import Fixmatch

SETTINGS: dict[str, Any] = {
    "threshold": 0.95,
    "unlabeled_weight": 1.0,
    "max_shift": 0.125,
    "flip": True,
    "space": "normalized",
    "num_ops": 2,
    "cutout": 0.5,
}


def semi_supervised() -> Batch:
    return {**images(6), "x_unlabeled": images(10, seed=1)["x"]}


def first_step(**changes: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradients of the first step and its metrics."""
    module = small_net()
    loss = onion({"fixmatch": Fixmatch(**{**SETTINGS, **changes})}, "loss", Classify())
    torch.manual_seed(6)
    grads, aux = gradient(loss)(params_of(module), semi_supervised(), context(module))
    return grads, aux["metrics"]


def supervised() -> dict[str, Tensor]:
    module = small_net()
    return gradient(Classify())(params_of(module), semi_supervised(), context(module))[0]


def test_the_term_equals_that_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    weak, strong = (torch.randn(40, 5, generator=generator) * 2 for _ in range(2))
    total, counted = 0.0, 0
    for w, s in zip(weak.double().tolist(), strong.double().tolist(), strict=True):
        exps = [math.exp(v) for v in w]
        if max(exps) / sum(exps) >= 0.7:
            counted += 1
            total += -math.log(math.exp(s[exps.index(max(exps))]) / sum(math.exp(v) for v in s))
    assert 5 < counted < 35
    for threshold in (0.7, torch.tensor(0.7)):
        loss, rate, counts = consistency(weak, strong, threshold)
        assert float(counts.sum()) == counted
        assert float(loss) == pytest.approx(total / 40, rel=1e-5)
        assert float(rate) == pytest.approx(counted / 40)


def test_no_gradient_reaches_the_predictions_that_become_labels() -> None:
    weak, strong = torch.randn(8, 3, requires_grad=True), torch.randn(8, 3, requires_grad=True)
    loss, *_ = consistency(weak, strong, 0.0)
    loss.backward()
    assert weak.grad is None
    assert bool(strong.grad.any())


def test_without_confident_samples_it_equals_supervised_training() -> None:
    grads, metrics = first_step(threshold=1.0)
    assert float(metrics["mask_rate"]) == 0.0
    for name, expected in supervised().items():
        torch.testing.assert_close(grads[name], expected)


def test_with_threshold_zero_the_term_is_the_cross_entropy_with_the_weak_predictions() -> None:
    grads, metrics = first_step(threshold=0.0, unlabeled_weight=0.3)
    module, technique, batch = small_net(), Fixmatch(**SETTINGS), semi_supervised()
    torch.manual_seed(6)
    weak, strong = technique.views(batch)
    term = F.cross_entropy(module(strong), module(weak).argmax(1))
    loss = F.cross_entropy(module(batch["x"]), batch["y"]) + 0.3 * term
    assert float(metrics["mask_rate"]) == 1.0
    torch.testing.assert_close(metrics["unlabeled_loss"], term.detach())
    torch.testing.assert_close(metrics["loss"], loss.detach())
    for name, p in module.named_parameters():
        torch.testing.assert_close(grads[name], torch.autograd.grad(loss, p, retain_graph=True)[0], msg=name)


def test_labelled_and_unlabelled_share_one_forward_pass_and_its_statistics() -> None:
    module, technique, batch = small_net(norm=True), Fixmatch(**SETTINGS), semi_supervised()
    ctx = context(module)
    torch.manual_seed(6)
    gradient(onion({"fixmatch": technique}, "loss", Classify()))(params_of(module), batch, ctx)
    torch.manual_seed(6)
    rows = torch.cat([batch["x"], *technique.views(batch)])
    torch.testing.assert_close(ctx.buffers["1.running_mean"], 0.1 * module[0](rows).mean((0, 2, 3)).detach())
    assert int(ctx.buffers["1.num_batches_tracked"]) == 1


def test_a_shift_by_zero_changes_nothing() -> None:
    x = images(5)["x"]
    assert torch.equal(flip_and_shift(x, 0.0, flip=False), x)


def test_every_shift_is_a_crop_of_the_reflected_image() -> None:
    torch.manual_seed(0)
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(300, 1, 8, 8)
    padded = F.pad(x[:1], [2] * 4, mode="reflect")[0, 0]
    crops = {tuple(padded[i : i + 8, j : j + 8].flatten().tolist()): (i - 2, j - 2) for i in range(5) for j in range(5)}
    seen = {crops[tuple(image.flatten().tolist())] for image in flip_and_shift(x, 0.25, flip=False)}
    assert seen == set(crops.values()), "every whole shift up to a quarter of the side occurs, and no other"
    mirrored = {tuple(torch.tensor(c).view(8, 8).flip(1).flatten().tolist()) for c in crops}
    found = [tuple(image.flatten().tolist()) for image in flip_and_shift(x, 0.25, flip=True)]
    assert set(found) <= set(crops) | mirrored
    assert 110 < sum(image in mirrored for image in found) < 190


def operation(x: Tensor, name: str, magnitude: float) -> Tensor:
    choice = torch.full((len(x),), list(OPERATIONS).index(name))
    return apply_operation(x, choice, torch.full((len(x),), magnitude))


def test_the_identity_operation_changes_nothing() -> None:
    x = images(3, shape=(3, 9, 7))["x"]
    torch.testing.assert_close(operation(x, "identity", 1.0), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"identity"}))
def test_every_operation_changes_images_except_at_magnitude_zero(name: str) -> None:
    x = images(3, shape=(3, 8, 8))["x"]
    torch.testing.assert_close(operation(x, name, 0.0), x, rtol=1e-5, atol=1e-5)
    assert float((operation(x, name, 1.0) - x).abs().mean()) > 0.01


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rotate", {"angle": -15.0}),
        ("translate_x", {"translate": [-6, 0]}),
        ("translate_y", {"translate": [0, -6]}),
        ("shear_x", {"shear": [math.degrees(math.atan(0.15)), 0.0]}),
    ],
)
def test_geometric_operations_equal_torchvisions(name: str, arguments: dict[str, Any]) -> None:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as T

    x = torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    plain = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    theirs = T.affine(x, **{**plain, **arguments}, interpolation=InterpolationMode.BILINEAR)
    inner = (slice(None), slice(None), slice(10, 30), slice(10, 30))  # the two treat the border differently
    torch.testing.assert_close(operation(x, name, 0.5)[inner], theirs[inner], rtol=1e-3, atol=1e-3)


def test_cutout_sets_a_square_to_the_mean() -> None:
    x = torch.ones(2, 3, 8, 8)
    cut = cut_out(x, torch.tensor([[0.5, 0.5], [0.0, 0.0]]), 0.5)
    expected = torch.ones(2, 8, 8)
    expected[0, 2:6, 2:6] = 0
    expected[1, :2, :2] = 0
    assert torch.equal(cut, expected.unsqueeze(1).expand(2, 3, 8, 8))
    assert torch.equal(cut_out(x, torch.full((2, 2), 0.5), 0.0), x)


def test_strong_views_differ_from_sample_to_sample() -> None:
    torch.manual_seed(0)
    x = images(1)["x"].expand(20, 1, 8, 8)
    views = strong_augment(x, 2, 0.5)
    assert len({tuple(view.flatten().tolist()) for view in views}) == 20


def test_targets_that_are_values_are_refused() -> None:
    module = small_net()
    with pytest.raises(ValueError, match="technique=fixmatch makes class labels"):
        Fixmatch(**SETTINGS).setup(module, params_of(module), {**semi_supervised(), "y": torch.randn(6)}, 0)


@pytest.mark.parametrize(("key", "value"), [("threshold", 1.5), ("max_shift", 0.6), ("cutout", -0.1), ("num_ops", -1)])
def test_values_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"technique.fixmatch.{key}={value} is out of range"):
        make("technique=fixmatch", "data.unlabeled_ratio=2", f"technique.fixmatch.{key}={value}")


def test_documented_command_trains(tmp_path: Path) -> None:
    overrides = ["technique=fixmatch", "data.unlabeled_ratio=7", "data.limit=100", "max_steps=4", "plots=false"]
    command = [sys.executable, "-m", "mltricks", *overrides, f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert 0.0 <= summary["train"]["mask_rate"] <= 1.0


def test_a_run_saved_before_the_setting_keeps_its_operations() -> None:
    node = {"_target_": "mltricks.techniques.fixmatch.Fixmatch", "threshold": 0.9}
    cfg = with_newer({"technique": {"fixmatch": node}})
    assert (cfg["technique"]["fixmatch"]["space"], cfg["technique"]["fixmatch"]["threshold"]) == ("normalized", 0.9)


def test_the_page_shows_labelled_samples_of_a_run_whose_views_are_made_of_others() -> None:
    section = samples_section(make("technique=fixmatch", "augment=crop", "data.unlabeled_ratio=2", "data.limit=40"))
    assert section is not None
    assert [part.words for part in section.parts if isinstance(part, Text)] == ["After crop."]


@pytest.mark.parametrize(
    ("few", "fewer"),
    [
        (["data.limit=null", "data.labels_per_class=4"], ""),
        (["data.limit=40"], ""),
        (["data.limit=null", "data.fraction=0.5"], ""),
        (["data.limit=null"], r" data\.fraction=0\.1"),
    ],
)
def test_the_fix_for_missing_unlabelled_samples_fits_the_settings_that_choose_labels(
    few: list[str], fewer: str
) -> None:
    with pytest.raises(ValueError, match=rf"there are none\. Type data\.unlabeled_ratio=7{fewer}\.$"):
        make("technique=fixmatch", *few)
