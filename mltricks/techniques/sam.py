"""Sharpness-aware minimisation (SAM): compute the gradient at the nearby point of largest loss.

Source: Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization",
2021, arXiv:2010.01412, equations 2 and 3. Adaptive: Kwon, Kim, Park, Choi, "ASAM", 2021, arXiv:2102.11600, equation 6.
Deviation: random layers (dropout) draw new numbers for the second gradient; the authors' code repeats the first ones.
Metrics and ``Aux`` are from the first pass; the authors' are from the second. Batch-norm statistics are from the first
pass, as in the authors' code.
Cost: two forward and backward passes per update, and one more copy of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.functional import foreach
from mltricks.technique import Aux, Ctx, GradFn, Params, Technique

TINY = 1e-12
"""Added to the norm, so that a zero gradient gives no perturbation."""
ASAM_ETA = 0.01
"""Added to the absolute value of a weight, so that zero weights move too; the value of ASAM's authors."""


@dataclass(frozen=True)
class Sam(Technique):
    """g = gradient at p + e, with e = rho g0 / ||g0|| and g0 the gradient at p.

    Args:
        rho: radius of the neighbourhood, >= 0.
        adaptive: measure the radius relative to the size T of every weight: e = rho T^2 g0 / ||T g0||. Useful values of
            ``rho`` are then about ten times larger.
    """

    rho: NonNegative
    adaptive: bool

    def grads(self, inner: GradFn) -> GradFn:
        def sharpness_aware(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            first, aux = inner(params, batch, ctx)
            moved = perturbed(params, first, self.rho, self.adaptive)
            second, second_aux = inner(moved, batch, ctx.fork())
            if "finite" in aux:
                aux["finite"] = aux["finite"] & second_aux["finite"]
            return second, aux

        return sharpness_aware


def perturbed(params: Params, grads: Params, rho: float | Tensor, adaptive: bool) -> Params:
    """The point at distance ``rho`` from ``params`` in the direction of steepest ascent.

    >>> import torch
    >>> perturbed({"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])}, 0.5, adaptive=False)["w"]
    tensor([0.3000, 0.4000])
    """
    weights, direction = list(params.values()), [grads[name] for name in params]
    # biases and norm scales use T = 1, as in the authors' code
    sizes = [p.abs() + ASAM_ETA if p.ndim > 1 else p.new_ones(()) for p in weights] if adaptive else []
    scaled = [g * size for g, size in zip(direction, sizes, strict=True)] if adaptive else direction
    factor = rho / (foreach.global_norm(scaled) + TINY)
    if adaptive:
        scaled = [g * size for g, size in zip(scaled, sizes, strict=True)]
    return dict(zip(params, foreach.axpy(factor, scaled, weights), strict=True))
