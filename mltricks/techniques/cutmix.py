"""CutMix: paste a box of one image into another, and blend their labels by area.

Source: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", 2019, arXiv:1905.04899, section 3.1 and algorithm A1.
Deviation: pairs are made by rolling the batch by one, and box centres are whole pixels, both as in torchvision.
Shapes: ``x`` (B, C, H, W) float, ``y`` (B,) int64, or (B,) or (B, K) float -> ``y`` float. Legend: H height, W width.
Cost: one selection over the batch; no extra forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import Positive, Probability
from mltricks.functional.beta import sample_beta
from mltricks.functional.targets import soft_targets
from mltricks.technique import Ctx, Technique
from mltricks.techniques.mixup import mix


@dataclass(frozen=True)
class Cutmix(Technique):
    """A box of share 1 - lam comes from the sample before, with lam ~ Beta(alpha, alpha); labels are weighted by area.

    Args:
        alpha: strength, > 0; 1 makes every share equally likely.
        p_batch: share of the batches that are mixed at all, in [0, 1].
    """

    alpha: Positive
    p_batch: Probability

    kinds = ("image",)
    needs_one_target = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        x = batch["x"]
        height, width = x.shape[-2:]
        lam = sample_beta(self.alpha, x)
        row = torch.randint(height, (), device=x.device)
        column = torch.randint(width, (), device=x.device)
        lam = torch.where(torch.rand((), device=x.device) < self.p_batch, lam, 1.0)
        inside = box_mask(lam, row, column, height, width)
        share = 1 - inside.float().mean()  # the box is cut at the border, so its true area counts
        y = soft_targets(batch["y"], ctx.num_outputs)
        return {**batch, "x": torch.where(inside, x.roll(1, 0), x), "y": mix(y, share)}


def box_mask(lam: Tensor, row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in a box around a centre, clipped to the image.

    Args:
        lam: share of the image outside the box before it is clipped, in [0, 1], 0-d.
        row, column: the centre, 0-d int64.
        height, width: of the image.

    Returns:
        (H, W) bool.

    >>> box_mask(torch.tensor(0.75), torch.tensor(0), torch.tensor(2), 4, 4).int()
    tensor([[0, 1, 1, 0],
            [0, 0, 0, 0],
            [0, 0, 0, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    half = 0.5 * (1 - lam).sqrt()
    rows, columns = torch.arange(height, device=lam.device), torch.arange(width, device=lam.device)
    return _near(rows, row, (half * height).floor()).unsqueeze(1) & _near(columns, column, (half * width).floor())


def _near(positions: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    return (positions >= centre - half) & (positions < centre + half)
