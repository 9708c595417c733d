"""Gradient clipping by global norm.

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013, arXiv:1211.5063,
algorithm 1, in the form of ``torch.nn.utils.clip_grad_norm_``.
Deviation: with loss scaling, the norm is that of the unscaled gradient.
Cost: one norm of the gradient and one product with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.batch import Batch
from mltricks.config.values import Positive
from mltricks.functional import foreach
from mltricks.technique import Aux, Ctx, GradFn, Params, Technique

EPSILON = 1e-6
"""Added to the norm in the denominator, as in ``clip_grad_norm_``."""


@dataclass(frozen=True)
class ClipNorm(Technique):
    """g = g min(1, max_norm / ||g||), with the 2-norm over all parameters. Metric ``grad_norm``, before clipping.

    Args:
        max_norm: the largest norm that passes unchanged, > 0.
    """

    max_norm: Positive

    def grads(self, inner: GradFn) -> GradFn:
        def clipped(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            grads, aux = inner(params, batch, ctx)
            norm = foreach.global_norm(list(grads.values()))
            if ctx.grad_scale is not None:
                norm = norm / ctx.grad_scale
            aux["metrics"]["grad_norm"] = norm
            factor = (self.max_norm / (norm + EPSILON)).clamp(max=1.0)
            return dict(zip(grads, foreach.mul(list(grads.values()), factor), strict=True)), aux

        return clipped
