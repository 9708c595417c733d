"""LAMB: Adam's direction, rescaled so that a step in a matrix is as long as lr times the norm of the matrix.

Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020, arXiv:1904.00962,
algorithm 2, with bias correction and with phi(z) = z; norms and biases have neither the ratio nor the decay, as in the
authors' code.
Deviation: no clipping of the whole gradient before the update (NVIDIA's and timm's default is a norm of 1;
``technique=clip_norm`` does it), and no bounds on the norm of the weights.
Cost: two tensors per parameter, and two norms of every matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.config.values import Decay, Positive
from mltricks.functional import foreach
from mltricks.optim.adam import missing_share
from mltricks.optim.base import Slots
from mltricks.optim.layer_adapted import LayerAdapted, ratios, scaled


@dataclass(frozen=True)
class LAMB(LayerAdapted):
    """u = m_hat / (sqrt(v_hat) + eps) + weight_decay p;  p = p - lr |p| / |u| u, and p - lr u for excluded parameters.

    The ratio is 1 where |p| or |u| is 0.

    Args:
        beta1: decay rate of the average gradient, in [0, 1).
        beta2: decay rate of the average squared gradient, in [0, 1).
        eps: added to the root, > 0.
    """

    beta1: Decay
    beta2: Decay
    eps: Positive

    slots = ("mean", "square")
    reads = (("lr", "weight_decay", "beta1", "beta2", "eps"), ("lr", "beta1", "beta2", "eps"))

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        mean = foreach.lerp_(grads, 1 - self.beta1, slots["mean"])
        square = foreach.addcmul_(grads, grads, 1 - self.beta2, foreach.mul_(self.beta2, slots["square"]))
        root = missing_share(self.beta2, count).sqrt()
        denominator = foreach.shift(foreach.sqrt(square), self.eps * root)
        directions = foreach.mul_(root / missing_share(self.beta1, count), foreach.div(mean, denominator))
        new = {"mean": mean, "square": square}
        if not self.adapts:
            return foreach.axpy_(-self.lr, directions, params), new
        directions = foreach.axpy(self.weight_decay, params, directions)
        lengths = foreach.norms(directions)
        steps = scaled(directions, ratios(foreach.norms(params), lengths, lengths))
        return foreach.axpy_(-self.lr, steps, params), new
