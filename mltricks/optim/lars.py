"""LARS: gradient descent with momentum whose step in a matrix is proportional to the norm of the matrix.

Source: You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017, arXiv:1708.03888, algorithm 1:
the local rate is trust |p| / (|g| + weight_decay |p|), it multiplies the gradient with the decay, and the momentum adds
up steps that include their learning rate. ``lr_in_momentum=false`` is the form of torch's SGD and of most libraries, in
which the present learning rate multiplies the whole momentum: the two differ whenever the rate changes. Norms and
biases have neither local rate nor decay, as in the code of SimCLR and Barlow Twins; ``excluded=none`` gives them both,
as the paper does.
Deviation: SimCLR and Barlow Twins take |g + weight_decay p| for the denominator; the local rate is not clipped (LARC).
Cost: one tensor per parameter, and two norms of every matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.config.values import Decay, Positive
from mltricks.functional import foreach
from mltricks.optim.base import Slots
from mltricks.optim.layer_adapted import LayerAdapted, ratios, scaled


@dataclass(frozen=True)
class LARS(LayerAdapted):
    """m = momentum m + lr trust |p| / (|g| + weight_decay |p|) (g + weight_decay p);  p = p - m.

    Excluded parameters: m = momentum m + lr g. The local rate is 1 where |p| or |g| is 0.

    Args:
        momentum: factor on the last step, in [0, 1).
        trust: length of a step relative to the matrix, at a learning rate of 1, > 0.
        lr_in_momentum: whether the momentum adds up steps with their learning rates; else the present learning rate
            multiplies it.
    """

    momentum: Decay
    trust: Positive
    lr_in_momentum: bool

    slots = ("momentum",)
    reads = (("lr", "weight_decay", "momentum", "trust"), ("lr", "momentum"))
    accumulates = "momentum"

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        if self.adapts:
            weights, lengths = foreach.norms(params), foreach.norms(grads)
            local = ratios(self.trust * weights, lengths + self.weight_decay * weights, lengths)
            grads = scaled(foreach.axpy(self.weight_decay, params, grads), local)
        within, outside = (self.lr, 1.0) if self.lr_in_momentum else (1.0, self.lr)
        momentum = foreach.axpy_(within, grads, foreach.mul_(self.momentum, slots["momentum"]))
        return foreach.axpy_(-outside, momentum, params), {"momentum": momentum}
