"""Stochastic gradient descent with momentum.

Source: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML
2013, in the form of ``torch.optim.SGD`` (momentum outside the learning rate, L2 decay added to the gradient).
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
class SGD(WithKernel):
    """d = g + weight_decay p;  m = momentum m + d;  p = p - lr (m, or d + momentum m with Nesterov).

    Args:
        momentum: factor on the last direction, in [0, 1).
        nesterov: whether to use Nesterov momentum.

    Raises:
        ValueError: ``nesterov`` without momentum.
    """

    momentum: Decay
    nesterov: bool

    slots = ("momentum",)
    accumulates = "momentum"
    shrinks = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optim.nesterov=true has no effect with optim.momentum=0. "
                "Type optim.nesterov=false, or optim.momentum=0.9."
            )

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        d = foreach.axpy(self.weight_decay, params, grads)
        m = foreach.axpy(self.momentum, slots["momentum"], d)
        direction = foreach.axpy(self.momentum, m, d) if self.nesterov else m
        return foreach.axpy(-self.lr, direction, params), {"momentum": m}

    def can_fuse(self) -> bool:
        return numbers(self.lr, self.weight_decay, self.momentum)

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        if self.momentum == 0:  # the kernel would not write the slot, but a momentum scheduled up from 0 needs it
            torch._foreach_copy_(slots["momentum"], foreach.axpy(self.weight_decay, params, grads))
        torch._fused_sgd_(
            params,
            grads,
            slots["momentum"] if self.momentum else [],
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )
