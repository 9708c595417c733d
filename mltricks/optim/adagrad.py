"""Adagrad: the gradient divided by the root of the sum of all its squares.

Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR
12, 2011, the diagonal form, in the form of ``torch.optim.Adagrad`` (the sum starts at ``initial_accumulator``, 0 there
and 0.1 in TensorFlow; the first step is lr sign(g)).
Cost: one tensor per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import NonNegative, Positive
from mltricks.functional import foreach
from mltricks.optim.base import Slots
from mltricks.optim.kernels import InPlace


@dataclass(frozen=True)
class Adagrad(InPlace):
    """s = s + g^2;  p = p - lr / (1 + lr_decay (t - 1)) g / (sqrt(s) + eps); g includes weight_decay p.

    Args:
        lr_decay: strength of the decay of the learning rate over the updates t = 1, 2, ..., >= 0.
        initial_accumulator: the sum s before the first update, >= 0.
        eps: added to the root, > 0.
    """

    lr_decay: NonNegative
    initial_accumulator: NonNegative
    eps: Positive

    slots = ("sum",)
    undriven = ("initial_accumulator",)

    def first(self, slot: str, param: Tensor) -> Tensor:
        return torch.full_like(param, self.initial_accumulator)

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        grads = foreach.axpy(self.weight_decay, params, grads)
        total = foreach.addcmul_(grads, grads, 1.0, slots["sum"])
        root = foreach.shift(foreach.sqrt(total), self.eps)
        return foreach.axpy_(-self.lr / (1 + (count - 1) * self.lr_decay), foreach.div(grads, root), params), {
            "sum": total
        }
