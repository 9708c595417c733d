"""Mixup: train on convex combinations of pairs of samples and of their labels.

Source: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", 2018,
arXiv:1710.09412, section 2.
Deviation: pairs are made by rolling the batch by one, as in torchvision; for a shuffled batch this equals the authors'
random permutation. There is one weight per batch, as in both.
Shapes: ``x`` (B, ...) float, ``y`` (B,) int64, or (B,) or (B, K) float -> ``y`` float.
Cost: one interpolation of the batch; no extra forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import Positive
from mltricks.functional.beta import sample_beta
from mltricks.functional.targets import soft_targets
from mltricks.technique import Ctx, Technique


@dataclass(frozen=True)
class Mixup(Technique):
    """x = lam x + (1 - lam) roll(x), the same for the labels, with lam ~ Beta(alpha, alpha).

    Args:
        alpha: strength, > 0; small values leave most batches nearly unchanged.
    """

    alpha: Positive

    kinds = ("image", "vector")
    needs_one_target = True
    mixes = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        x = batch["x"]
        lam = sample_beta(self.alpha, x)
        y = soft_targets(batch["y"], ctx.num_outputs)
        return {**batch, "x": mix(x, lam), "y": mix(y, lam)}


def mix(x: Tensor, lam: Tensor) -> Tensor:
    """lam x + (1 - lam) roll(x): mix every sample with the one before it in the batch.

    >>> import torch
    >>> mix(torch.tensor([0.0, 1.0]), torch.tensor(0.75))
    tensor([0.2500, 0.7500])
    """
    return x.roll(1, 0).lerp(x, lam)
