"""Gradient clipping by value: limit every element of the gradient.

Source: Mikolov, "Statistical Language Models Based on Neural Networks", 2012, section 3.2.2 (elements limited to 15),
in the form of ``torch.nn.utils.clip_grad_value_``.
Deviation: with loss scaling, the limit is on the unscaled gradient.
Cost: one pass over the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mltricks.batch import Batch
from mltricks.config.values import Positive
from mltricks.technique import Aux, Ctx, GradFn, Params, Technique


@dataclass(frozen=True)
class ClipValue(Technique):
    """g = min(max(g, -max_value), max_value), element by element.

    Args:
        max_value: the largest absolute value that passes unchanged, > 0.
    """

    max_value: Positive

    def grads(self, inner: GradFn) -> GradFn:
        def clipped(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            grads, aux = inner(params, batch, ctx)
            limit: Any = self.max_value if ctx.grad_scale is None else self.max_value * ctx.grad_scale
            return {name: g.clamp(-limit, limit) for name, g in grads.items()}, aux

        return clipped
