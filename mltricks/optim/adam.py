"""Adam, with weight decay as an L2 term in the gradient.

Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, arXiv:1412.6980, algorithm 1, in the form of
``torch.optim.Adam`` (epsilon outside the bias-corrected root). Cost: two tensors per parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import Decay, Positive
from mltricks.functional import foreach
from mltricks.optim.base import Slots
from mltricks.optim.kernels import WithKernel, numbers


@dataclass(frozen=True)
class Adam(WithKernel):
    """p = p - lr m_hat / (sqrt(v_hat) + eps); m and v are the averages of g and g^2, and g includes weight_decay p.

    Args:
        beta1: decay rate of the average gradient, in [0, 1).
        beta2: decay rate of the average squared gradient, in [0, 1).
        eps: added to the root, > 0.
    """

    beta1: Decay
    beta2: Decay
    eps: Positive

    slots = ("mean", "square")
    fused_from = 4096
    kernel: ClassVar[Any] = staticmethod(torch._fused_adam_)

    def decayed(self, grads: list[Tensor], params: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The gradients and parameters with weight decay applied."""
        return foreach.axpy(self.weight_decay, params, grads), params

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        grads, params = self.decayed(grads, params)
        mean = foreach.lerp(slots["mean"], grads, 1 - self.beta1)
        square = foreach.addcmul(foreach.mul(slots["square"], self.beta2), grads, grads, 1 - self.beta2)
        # mean / bias1 / (sqrt(square / bias2) + eps): the bias corrections are 0-d, so fold them into step size
        # and eps, which saves two passes over the tensors
        root = missing_share(self.beta2, count).sqrt()
        step_size = self.lr * root / missing_share(self.beta1, count)
        denominator = foreach.shift(foreach.sqrt(square), self.eps * root)
        return foreach.axpy(-step_size, foreach.div(mean, denominator), params), {"mean": mean, "square": square}

    def can_fuse(self) -> bool:
        return numbers(self.lr, self.weight_decay, self.beta1, self.beta2, self.eps)

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        self.kernel(
            params,
            grads,
            slots["mean"],
            slots["square"],
            [],
            [count] * len(params),
            amsgrad=False,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.eps,
            maximize=False,
        )


def missing_share(beta: float | Tensor, count: Tensor) -> Tensor:
    """The bias correction 1 - beta^count of an average that starts at zero; accurate also for beta close to 1.

    >>> missing_share(0.75, torch.tensor(2.0))
    tensor(0.4375)
    """
    if isinstance(beta, Tensor):
        return -torch.expm1(count * torch.log(beta))
    return -torch.expm1(count * (math.log(beta) if beta else -math.inf))
