"""NAdam: Adam with Nesterov momentum.

Source: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, algorithm 8, in the form of
``torch.optim.NAdam`` (the momentum mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) rises to beta1).
Cost: two tensors per parameter, and a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import NonNegative
from mltricks.functional import foreach
from mltricks.optim.adam import missing_share
from mltricks.optim.base import Slots
from mltricks.optim.either_decay import EitherDecay

RISE = math.log(0.96)


@dataclass(frozen=True)
class NAdam(EitherDecay):
    """p = p - lr (mu_next m / (1 - M mu_next) + (1 - mu) g / (1 - M)) / (sqrt(v_hat) + eps).

    Args:
        momentum_decay: how fast the momentum mu rises from about beta1 / 2 to beta1, >= 0; M is the product of all mu.
    """

    momentum_decay: NonNegative

    slots = ("mean", "square", "product")
    shared = ("product",)

    def first(self, slot: str, param: Tensor) -> Tensor:
        return torch.ones((), device=param.device) if slot == "product" else torch.zeros_like(param)

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        grads, params = self.decayed(grads, params)
        now, then = self._momentum(count), self._momentum(count + 1)
        product = foreach.mul_(now, slots["product"])
        mean = foreach.lerp_(grads, 1 - self.beta1, slots["mean"])
        square = foreach.addcmul_(grads, grads, 1 - self.beta2, foreach.mul_(self.beta2, slots["square"]))
        # both bias corrections are 0-d: fold that of the root into step size and eps, as in Adam
        root = missing_share(self.beta2, count).sqrt()
        denominator = foreach.shift(foreach.sqrt(square), self.eps * root)
        size, past = -self.lr * root, product[0]
        params = foreach.axpy_(size * (1 - now) / (1 - past), foreach.div(grads, denominator), params)
        params = foreach.axpy_(size * then / (1 - past * then), foreach.div(mean, denominator), params)
        return params, {"mean": mean, "square": square, "product": product}

    def _momentum(self, count: Tensor) -> Tensor:
        """mu at an update, 0-d."""
        return self.beta1 * (1 - 0.5 * torch.exp(RISE * self.momentum_decay * count))
