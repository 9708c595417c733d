"""Points at equal distances of a run, such as those at which weights are averaged or kept."""

from __future__ import annotations

import torch
from torch import Tensor

from mltricks.technique import Ctx

ROUNDING = 1e-3
"""Share of the distance between two points by which progress, in float32, may fall short of a point."""


def points_passed(ctx: Ctx, start: float | Tensor, num: int) -> Tensor:
    """The number of points start + (1 - start) k / num, k = 1, 2, ..., that the run has passed with this update.

    It is negative before ``start``. A technique compares it with the number of points that it has used, so that several
    points within one update count as one, and none is missed.

    Args:
        ctx: of an ``after``, whose progress does not include this update.
        start: share of the run before the first interval, in [0, 1).
        num: number of points; the last one is the end of the run.

    Returns:
        A 0-d float tensor.
    """
    step = ctx.step.float()
    done = ctx.progress * (step + 1) / step.clamp_min(1)  # the share of the run with this update
    return torch.floor((done - start) / (1 - start) * num + ROUNDING)
