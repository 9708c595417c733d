"""RMSprop: the gradient divided by the root of the running average of its square.

Source: Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012; with ``centered`` Graves,
"Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850, equations 38 to 45.
Form: that of ``torch.optim.RMSprop``: epsilon is added to the root, the average starts at 0 without a bias correction
(the first step is 1 / sqrt(1 - alpha) times the learning rate), momentum adds up divided gradients, and the learning
rate is outside of it. TensorFlow has epsilon inside the root, an average that starts at 1, and the learning rate inside
the momentum.
Deviation: ``centered`` takes the root of max(variance, 0), where rounding gives torch a small negative variance and so
a NaN.
Cost: two tensors per parameter, three with ``centered``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.config.values import Decay, Positive
from mltricks.functional import foreach
from mltricks.optim.base import Slots
from mltricks.optim.kernels import InPlace


@dataclass(frozen=True)
class RMSprop(InPlace):
    """m = momentum m + g / (sqrt(v) + eps);  p = p - lr m; v is the average of g^2, and g includes weight_decay p.

    With ``centered``, v is the variance: the average of g^2 less the square of the average of g.

    Args:
        alpha: decay rate of the averages, in [0, 1).
        momentum: factor on the last direction, in [0, 1); 0 for none.
        eps: added to the root, > 0.
        centered: whether to divide by the standard deviation.
    """

    alpha: Decay
    momentum: Decay
    eps: Positive
    centered: bool

    accumulates = "momentum"

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("square", "momentum", "mean") if self.centered else ("square", "momentum")

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        grads = foreach.axpy(self.weight_decay, params, grads)
        new = {"square": foreach.addcmul_(grads, grads, 1 - self.alpha, foreach.mul_(self.alpha, slots["square"]))}
        variance = new["square"]
        if self.centered:
            new["mean"] = foreach.lerp_(grads, 1 - self.alpha, slots["mean"])
            variance = foreach.max_(0.0, foreach.addcmul(variance, new["mean"], new["mean"], -1.0))
        root = foreach.shift(foreach.sqrt(variance), self.eps)
        past = foreach.mul_(self.momentum, slots["momentum"])
        new["momentum"] = foreach.axpy_(1.0, foreach.div(grads, root), past)
        return foreach.axpy_(-self.lr, new["momentum"], params), new
