"""Lion: the step is the sign of an interpolated momentum.

Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, arXiv:2302.06675, algorithm 2. The authors
advise a learning rate 3 to 10 times smaller than AdamW's, and a decay larger by the same factor.
Cost: one tensor per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import Decay
from mltricks.functional import foreach
from mltricks.optim.base import Slots
from mltricks.optim.kernels import WithKernel, numbers


@dataclass(frozen=True)
class Lion(WithKernel):
    """p = p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m = beta2 m + (1 - beta2) g.

    Args:
        beta1: weight of the momentum in the step's direction, in [0, 1).
        beta2: decay rate of the momentum, in [0, 1).
    """

    beta1: Decay
    beta2: Decay

    slots = ("momentum",)
    shrinks = True

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        direction = foreach.sign(foreach.lerp(slots["momentum"], grads, 1 - self.beta1))
        decayed = foreach.mul(params, 1 - self.lr * self.weight_decay)
        momentum = foreach.lerp(slots["momentum"], grads, 1 - self.beta2)
        return foreach.axpy(-self.lr, direction, decayed), {"momentum": momentum}

    def can_fuse(self) -> bool:
        return numbers(self.lr, self.weight_decay, self.beta1, self.beta2)

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        direction = torch._foreach_lerp(slots["momentum"], grads, 1 - self.beta1)
        torch._foreach_sign_(direction)
        torch._foreach_mul_(params, 1 - self.lr * self.weight_decay)
        torch._foreach_add_(params, direction, alpha=-self.lr)
        torch._foreach_lerp_(slots["momentum"], grads, 1 - self.beta2)
