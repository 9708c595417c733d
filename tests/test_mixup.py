"""Mixup, CutMix and label smoothing compared with torchvision, torch and their closed forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bare import CLASSES, context, images, small_net
from contract import advance, assert_same, make
from scipy import stats
from torch import nn

from mltricks.functional.beta import sample_beta
from mltricks.objectives.classify import Classify, soft_cross_entropy
from mltricks.techniques.cutmix import Cutmix, box_mask
from mltricks.techniques.label_smoothing import LabelSmoothing
from mltricks.techniques.mixup import Mixup, mix

LIKE = torch.zeros(1)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_weights_follow_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    draws = torch.stack([sample_beta(alpha, LIKE) for _ in range(1500)]).double()
    inner = draws[(draws > 1e-6) & (draws < 1 - 1e-6)].numpy()  # float32 rounds values that are closer to 1
    law = stats.beta(alpha, alpha)
    low, high = law.cdf(1e-6), law.cdf(1 - 1e-6)
    assert len(inner) == pytest.approx(1500 * (high - low), rel=0.05)
    assert stats.kstest(inner, lambda v: (law.cdf(v) - low) / (high - low)).pvalue > 0.01


def test_tiny_alpha_keeps_one_sample_or_the_other_and_never_half_of_each() -> None:
    torch.manual_seed(0)
    draws = torch.stack([sample_beta(1e-3, LIKE) for _ in range(400)])
    assert ((draws > 0.01) & (draws < 0.99)).float().mean() < 0.03
    assert 0.4 < draws.mean() < 0.6


def test_mixup_equals_torchvisions_for_the_same_weight() -> None:
    from torchvision.transforms import v2

    batch = images(6)
    reference = v2.MixUp(alpha=0.4, num_classes=CLASSES)
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = reference(batch["x"], batch["y"])
        torch.manual_seed(seed)
        lam = reference._dist.sample(())
        torch.testing.assert_close(mix(batch["x"], lam), x, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mix(F.one_hot(batch["y"], CLASSES).float(), lam), y, rtol=1e-6, atol=1e-6)


def test_mixup_blends_samples_and_targets_with_one_weight() -> None:
    x = torch.randn(CLASSES, 1, 8, 8)
    for y, own_share in ((torch.arange(CLASSES), lambda t: t.diagonal()), (torch.eye(CLASSES), lambda t: t.diagonal())):
        out = Mixup(alpha=1.0).batch({"x": x, "y": y}, context(nn.Identity()))
        lam = own_share(out["y"])
        assert torch.equal(lam, lam[:1].expand(CLASSES))
        torch.testing.assert_close(out["x"], lam[0] * x + (1 - lam[0]) * x.roll(1, 0))
        torch.testing.assert_close(out["y"].sum(1), torch.ones(CLASSES))


def test_mixup_blends_regression_targets() -> None:
    x, y = torch.randn(5, 3), torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0])
    out = Mixup(alpha=1.0).batch({"x": x, "y": y}, context(nn.Identity()))
    lam = (out["y"][1] - y[0]) / (y[1] - y[0])
    torch.testing.assert_close(out["y"], lam * y + (1 - lam) * y.roll(1))
    torch.testing.assert_close(out["x"], lam * x + (1 - lam) * x.roll(1, 0))


def test_cutmix_box_equals_torchvisions_for_the_same_draws() -> None:
    from torchvision.transforms import v2

    batch = images(6, shape=(3, 8, 13))
    reference = v2.CutMix(alpha=1.0, num_classes=CLASSES)
    for seed in range(30):
        torch.manual_seed(seed)
        x, y = reference(batch["x"], batch["y"])
        torch.manual_seed(seed)
        lam, column, row = reference._dist.sample(()), torch.randint(13, (1,)), torch.randint(8, (1,))
        inside = box_mask(lam.squeeze(), row.squeeze(), column.squeeze(), 8, 13)
        assert torch.equal(torch.where(inside, batch["x"].roll(1, 0), batch["x"]), x)
        torch.testing.assert_close(mix(F.one_hot(batch["y"], CLASSES).float(), 1 - inside.float().mean()), y)


def test_cutmix_weighs_labels_by_the_true_area() -> None:
    x = torch.arange(CLASSES).float().view(-1, 1, 1, 1).expand(CLASSES, 1, 8, 6)
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        out = Cutmix(alpha=1.0, p_batch=1.0).batch({"x": x, "y": torch.arange(CLASSES)}, context(nn.Identity()))
        kept = (out["x"] == x).float().mean((1, 2, 3))
        torch.testing.assert_close(kept, out["y"].diagonal())
        torch.testing.assert_close(1 - kept, out["y"].diagonal(-1)[0].expand(CLASSES))
        shares.append(float(kept[0]))
    assert len(set(shares)) > 5


def test_cutmix_mixes_the_asked_share_of_batches_and_none_at_zero() -> None:
    batch, ctx = images(4), context(nn.Identity())
    torch.manual_seed(0)
    mixed = sum(
        not torch.equal(Cutmix(alpha=50.0, p_batch=0.25).batch(batch, ctx)["x"], batch["x"]) for _ in range(400)
    )
    assert 70 <= mixed <= 130
    off = make("technique=cutmix", "technique.cutmix.p_batch=0.0")
    baseline = make()
    assert advance(off, 6) == advance(baseline, 6)
    assert_same(off.state["params"], baseline.state["params"])


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_label_smoothing_equals_that_of_torchs_cross_entropy(epsilon: float) -> None:
    batch, module = images(16), small_net()
    smooth = LabelSmoothing(epsilon=epsilon)
    blended = {**batch, "y": mix(F.one_hot(batch["y"], CLASSES).float(), torch.tensor(0.3))}
    for given in (batch, blended):  # class indices, and the probabilities that mixup makes
        logits = module(given["x"]).detach().requires_grad_()
        loss, _ = Classify().judge(logits, smooth.batch(given, context(module))["y"])
        expected = F.cross_entropy(logits, given["y"], label_smoothing=epsilon)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


def test_label_smoothing_refuses_targets_other_than_classes() -> None:
    smooth = LabelSmoothing(epsilon=0.1)
    for y in (torch.randn(4), torch.randint(9, (4, 7))):
        with pytest.raises(ValueError, match="label_smoothing needs one class a sample"):
            smooth.setup(nn.Identity(), {}, {"x": torch.zeros(4, 2), "y": y}, 0)


def test_probabilities_of_a_single_class_give_the_loss_of_its_index_bit_for_bit() -> None:
    torch.manual_seed(0)
    for count in (1, 7, 64, 1000):
        logits, y = torch.randn(count, 10, requires_grad=True), torch.randint(10, (count,))
        hard, soft = F.cross_entropy(logits, y), soft_cross_entropy(logits, F.one_hot(y, 10).float())
        assert torch.equal(hard, soft)
        assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (hard, soft)))
