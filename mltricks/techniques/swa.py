"""Stochastic weight averaging (SWA): predict with the mean of the weights along the last part of the run.

Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
Generalization", 2018, arXiv:1803.05407, algorithm 1; https://github.com/timgaripov/swa;
``torch.optim.swa_utils.AveragedModel``.
Deviation: the source takes one average an epoch. Here ``averages`` weights are taken at equal distances, the last of
them at the end of the run, so that runs of few epochs average too; one an epoch is averages = epochs (1 - start_frac).
Before the first average, prediction uses the current weights. The source's learning rate in the tail, constant and
high, is the schedule ``swa``; batch-norm statistics are re-estimated as ``mltricks.predicting`` says.
Cost: one more copy of the weights, one interpolation per update, and ``statistics_batches`` forward passes before
every evaluation of a model with batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Decay, Size
from mltricks.functional import foreach
from mltricks.functional.points import points_passed
from mltricks.technique import Aux, Ctx, Own, Params, PredFn, Technique


@dataclass(frozen=True)
class Swa(Technique):
    """average = mean of the weights at the points start_frac + (1 - start_frac) k / averages, k = 1, 2, ... of the run.

    Args:
        start_frac: share of the run before averaging, in [0, 1).
        averages: number of weights in the final average, >= 1; fewer if the run has fewer updates after
            ``start_frac``.
        statistics_batches: training batches from which batch-norm statistics are re-estimated before an evaluation;
            ``None``: all; 0: those of the weights that were trained stay, which may cost much accuracy.
    """

    start_frac: Decay
    averages: Count
    statistics_batches: Size | None

    after_changes = "own"
    replaces_weights = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        own = {"params": {name: p.clone() for name, p in params.items()}}
        return params, {**own, "count": torch.zeros((), dtype=torch.int64, device=batch["y"].device)}

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        old, count = ctx.own["params"], ctx.own["count"]
        taken = (points_passed(ctx, self.start_frac, self.averages) > count).long()
        count = count + taken
        averaged = foreach.lerp(list(old.values()), [params[name] for name in old], taken / count.clamp_min(1))
        copied = count <= taken  # the first average is the weights, and until then it follows them
        new = {name: torch.where(copied, params[name], mean) for name, mean in zip(old, averaged, strict=True)}
        return params, {"params": new, "count": count}

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            # a later technique may have added parameters after these were copied
            return inner({**params, **ctx.own["params"]}, x, ctx)

        return predict
