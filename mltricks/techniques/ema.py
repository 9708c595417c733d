"""Exponential moving average (EMA) of the weights, which replaces the weights in prediction.

Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; in the form of
``torch.optim.swa_utils.get_ema_multi_avg_fn``. The warm-up, min(decay, (1 + t) / (10 + t)), is TensorFlow's.
Deviation: floating-point buffers (batch-norm statistics) are averaged too, as in timm; integer ones stay current.
Cost: one more copy of the weights, and one interpolation per update.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Probability
from mltricks.functional import foreach
from mltricks.technique import Aux, Ctx, Own, Params, PredFn, Technique


@dataclass(frozen=True)
class Ema(Technique):
    """average = decay average + (1 - decay) weights, after every update.

    Args:
        decay: weight of the old average, in [0, 1].
        warmup: increase the decay from a small value, so that the average soon forgets the initial weights.
    """

    decay: Probability
    warmup: bool

    after_changes = "own"
    replaces_weights = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        return params, first_average(model, params)

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        return params, next_average(params, ctx, self.decay, self.warmup)

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            averaged = ctx.fork()
            averaged.buffers.update(ctx.own["buffers"])
            # a later technique may have added parameters after these were copied
            return inner({**params, **ctx.own["params"]}, x, averaged)

        return predict


def first_average(model: nn.Module, params: Params) -> Own:
    """The average before the first update: copies of the parameters and of the floating-point buffers."""
    buffers = {name: b.clone() for name, b in model.named_buffers() if b.is_floating_point()}
    return {"params": {name: p.clone() for name, p in params.items()}, "buffers": buffers}


def next_average(params: Params, ctx: Ctx, decay: float | Tensor, warmup: bool) -> Own:
    """The average after an update, of the parameters and buffers in ``ctx.own``."""
    if warmup:
        count = ctx.step + 1
        decay = torch.minimum(torch.as_tensor(decay, device=count.device), (1 + count) / (10 + count))
    return {name: average(ctx.own[name], now, decay) for name, now in (("params", params), ("buffers", ctx.buffers))}


def average(old: dict[str, Tensor], now: dict[str, Tensor], decay: float | Tensor) -> dict[str, Tensor]:
    """decay old + (1 - decay) now, for the names of ``old``."""
    blended = foreach.lerp(list(old.values()), [now[name] for name in old], 1 - decay) if old else []
    return dict(zip(old, blended, strict=True))
