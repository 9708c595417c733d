"""CutMix: paste a box of one image into another, and mix their labels by area.

Source: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", 2019, arXiv:1905.04899, section 3.1 and algorithm A1.
Deviation: pairs are made by rolling the batch by one, and box centres are whole pixels, both as in torchvision.
Shapes: ``x`` (B, C, H, W) float, ``y`` (B,) int64, or (B,) or (B, K) float -> ``y`` float. Legend: H height, W width.
Cost: one selection on the batch; no extra forward pass.
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
    """A box with 1 - lam of the area comes from the previous sample, with lam ~ Beta(alpha, alpha); labels likewise.

    Args:
        alpha: strength, > 0; 1 draws lam uniformly.
        p_batch: probability of mixing a batch, in [0, 1].
    """

    alpha: Positive
    p_batch: Probability

    kinds = ("image",)
    needs_one_target = True
    mixes = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        x = batch["x"]
        height, width = x.shape[-2:]
        lam = sample_beta(self.alpha, x)
        row = torch.randint(height, (), device=x.device)
        column = torch.randint(width, (), device=x.device)
        lam = torch.where(torch.rand((), device=x.device) < self.p_batch, lam, 1.0)
        inside = box_mask(lam, row, column, height, width)
        share = 1 - inside.float().mean()  # the box is clipped at the border, so use its actual area
        y = soft_targets(batch["y"], ctx.num_outputs)
        return {**batch, "x": torch.where(inside, x.roll(1, 0), x), "y": mix(y, share)}


def box_mask(lam: Tensor, row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """The mask of a box around a centre, clipped to the image.

    Args:
        lam: fraction of the image outside the box before clipping, in [0, 1], 0-d.
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
