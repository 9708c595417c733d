"""The base of optimisers whose weight decay is either coupled to the gradient or decoupled from it, as in torch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.config.values import Decay, Positive
from mltricks.functional import foreach
from mltricks.optim.kernels import InPlace


@dataclass(frozen=True)
class EitherDecay(InPlace):
    """An optimiser with Adam's averages.

    Args:
        beta1: decay rate of the average gradient m, in [0, 1).
        beta2: decay rate of the average squared gradient v, in [0, 1).
        eps: added to the root of v, > 0.
        decoupled_decay: whether the decay multiplies the weights by 1 - lr weight_decay, instead of adding
            weight_decay p to the gradient.
    """

    beta1: Decay
    beta2: Decay
    eps: Positive
    decoupled_decay: bool

    shrinks = "decoupled_decay"

    def decayed(self, grads: list[Tensor], params: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The gradients and parameters with weight decay applied."""
        if self.decoupled_decay:
            return grads, foreach.mul_(1 - self.lr * self.weight_decay, params)
        return foreach.axpy(self.weight_decay, params, grads), params
