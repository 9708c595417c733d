"""RAdam: Adam without the division by the root until the estimate of the root is good enough.

Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020, arXiv:1908.03265, algorithm 2.
Form: that of ``torch.optim.RAdam``: the division begins where the length rho of the average exceeds 5 (in the paper
where it exceeds 4; with beta2 0.999 that is update 6 instead of 5), and epsilon is added to the root before the bias
correction. Until then a step is lr times the bias-corrected average gradient, so the first updates follow the scale of
the gradient as those of SGD do.
Deviation: none in exact arithmetic; rho is computed in float64 where the device has it, because in float32 a difference
of numbers near 2 / (1 - beta2) loses three digits.
Cost: two tensors per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.functional import foreach
from mltricks.optim.adam import missing_share
from mltricks.optim.base import Slots
from mltricks.optim.either_decay import EitherDecay

SHORTEST = 5.0
"""The length of the average from which on the root divides."""


@dataclass(frozen=True)
class RAdam(EitherDecay):
    """p = p - lr r m_hat / (sqrt(v_hat) + eps') once rho > 5, and p - lr m_hat before.

    Here eps' is eps / sqrt(1 - beta2^t).
    """

    slots = ("mean", "square")

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        grads, params = self.decayed(grads, params)
        mean = foreach.lerp_(grads, 1 - self.beta1, slots["mean"])
        square = foreach.addcmul_(grads, grads, 1 - self.beta2, foreach.mul_(self.beta2, slots["square"]))
        rectified, ready = rectification(self.beta2, count)
        size = -self.lr / missing_share(self.beta1, count) * torch.where(ready, rectified, 1.0)
        root = foreach.select(ready, foreach.shift(foreach.sqrt(square), self.eps), 1.0)
        return foreach.axpy_(size, foreach.div(mean, root), params), {"mean": mean, "square": square}


def rectification(beta2: float | Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The factor on the step, bias correction of the root included, and whether the root divides; 0-d.

    >>> factor, ready = rectification(0.999, torch.tensor(6.0))
    >>> bool(ready), bool(rectification(0.999, torch.tensor(5.0))[1]), round(factor.item() / (1 - 0.999**6) ** 0.5, 6)
    (True, False, 0.025821)
    """
    t = count if count.device.type == "mps" else count.double()
    beta2 = beta2.to(t.dtype) if isinstance(beta2, Tensor) else beta2
    missing = missing_share(beta2, t)
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * (1 - missing) / missing
    long = length.clamp(min=SHORTEST)
    ratio = (long - 4) * (long - 2) * longest / ((longest - 4) * (longest - 2) * long)
    return (ratio * missing).sqrt().to(count.dtype), length > SHORTEST
