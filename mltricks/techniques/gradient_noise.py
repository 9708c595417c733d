"""Gradient noise: add Gaussian noise that fades in the course of the run to the gradient.

Source: Neelakantan, Vilnis, Le, Sutskever, Kaiser, Kurach, Martens, "Adding Gradient Noise Improves Learning for Very
Deep Networks", 2015, arXiv:1511.06807, equation 1.
Deviation: with loss scaling, the noise is that of the unscaled gradient.
Cost: one random tensor per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.technique import Aux, Ctx, GradFn, Params, Technique


@dataclass(frozen=True)
class GradientNoise(Technique):
    """g + N(0, eta / (1 + t)^decay) at update t = 0, 1, ...

    Args:
        eta: variance of the noise at the first update, >= 0.
        decay: exponent of its decline, >= 0; 0 for noise that does not fade.
    """

    eta: NonNegative
    decay: NonNegative

    def grads(self, inner: GradFn) -> GradFn:
        def noisy(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            grads, aux = inner(params, batch, ctx)
            deviation = (self.eta / (1 + ctx.step) ** self.decay) ** 0.5
            deviation = deviation if ctx.grad_scale is None else deviation * ctx.grad_scale
            return {name: g + deviation * torch.randn_like(g) for name, g in grads.items()}, aux

        return noisy
