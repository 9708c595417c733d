"""Dynamic loss scaling: scale gradients into the range of half precision, and skip steps that overflow.

Source: Micikevicius et al., "Mixed Precision Training", 2018, arXiv:1710.03740, section 3.2; scales as in
``torch.amp.GradScaler``.
Deviation: a skipped step still advances the schedules.
``precision=fp16`` puts it last in the list, next to the gradient.
Cost: two passes over the gradient, and optimiser updates out of place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Positive, Range
from mltricks.functional import foreach
from mltricks.technique import Aux, Ctx, GradFn, Own, Params, Technique


@dataclass(frozen=True)
class LossScale(Technique):
    """Multiply the loss by a scale and divide the gradient by it; the scale adapts. Metric ``loss_scale``.

    Args:
        init_scale: initial scale, > 0.
        growth_factor: factor on the scale after ``growth_interval`` finite steps in a row, >= 1.
        backoff_factor: factor on the scale after an overflow, in (0, 1).
        growth_interval: finite steps in a row before the scale grows, >= 1.
    """

    init_scale: Positive
    growth_factor: Annotated[float, Range(1.0)]
    backoff_factor: Annotated[float, Range(0.0, 1.0, above=True, below=True)]
    growth_interval: Count

    after_changes = "own"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        return params, {"scale": torch.tensor(float(self.init_scale)), "good_steps": torch.zeros((), dtype=torch.int64)}

    def grads(self, inner: GradFn) -> GradFn:
        def scaled(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            scale = ctx.own["scale"]
            grads, aux = inner(params, batch, replace(ctx, grad_scale=scale))
            flat = foreach.mul(list(grads.values()), 1 / scale)
            aux["finite"] = all_finite(flat)
            aux["metrics"]["loss_scale"] = scale
            return dict(zip(grads, flat, strict=True)), aux

        return scaled

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        return params, self.next_scale(ctx.own, aux["finite"])

    def next_scale(self, own: Own, finite: Tensor) -> Own:
        """The scale after a step, and the number of finite steps since its last change."""
        scale, good = own["scale"], own["good_steps"] + 1
        due = good >= self.growth_interval
        larger = scale * self.growth_factor
        kept = torch.where(due & larger.isfinite(), larger, scale)
        return {
            "scale": torch.where(finite, kept, scale * self.backoff_factor),
            "good_steps": torch.where(finite & ~due, good, 0),
        }


def all_finite(xs: list[Tensor]) -> Tensor:
    """Whether every element of every tensor is finite, 0-d bool."""
    # zero times a finite number is zero, but times infinity or NaN it is NaN: one norm over all tensors suffices
    return foreach.global_norm(foreach.mul(xs, 0.0)).isfinite()
