"""Lookahead: every k updates move slow weights a part of the way to the fast ones, and go on from there.

Source: Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", 2019, arXiv:1907.08610,
algorithm 1; https://github.com/michaelrzhang/lookahead.
Deviation: none from the authors' default; their other treatments of momentum (reset, pullback) are left out. The slow
weights start as the initial ones, so that the first synchronisation counts (timm's does not). Prediction uses the slow
weights, by default with the statistics of batch norm that the fast ones left.
Cost: one more copy of the weights, and one interpolation per update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Fraction, Size
from mltricks.technique import Aux, Ctx, Own, Params, PredFn, Technique


@dataclass(frozen=True)
class Lookahead(Technique):
    """slow = fast = slow + alpha (fast - slow) after every k-th update. Prediction uses the slow weights.

    Args:
        k: updates of the fast weights per update of the slow ones, >= 1.
        alpha: step size of the slow weights, in (0, 1].
        statistics_batches: training batches from which batch-norm statistics are re-estimated for the slow weights
            before an evaluation; ``None``: all; 0: those of the fast weights stay.
    """

    k: Count
    alpha: Fraction
    statistics_batches: Size | None

    after_changes = "weights"
    replaces_weights = True

    first_change: ClassVar[str] = "k"
    """The setting that is the number of updates until the weights that predict change for the first time."""

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        return params, {name: p.clone() for name, p in params.items()}

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        due = ctx.step % self.k == self.k - 1
        new, slow = dict(params), {}
        for name, old in ctx.own.items():
            fast = params[name]
            # torch.lerp is exact at weight 1, so that alpha = 1 changes nothing
            met = old.lerp(fast, torch.ones((), dtype=old.dtype, device=old.device) * self.alpha)
            new[name], slow[name] = torch.where(due, met, fast), torch.where(due, met, old)
        return new, slow

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            # a later technique may have added parameters after these were copied
            return inner({**params, **ctx.own}, x, ctx)

        return predict
