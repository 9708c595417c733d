"""Schedule-free learning: gradients at a point between the weights and their average, and no decaying learning rate.

Source: Defazio et al., "The Road Less Scheduled", 2024, arXiv:2405.15682, algorithm 1 (AdamW) and equations 6 to 8
(gradient descent), in the form of the authors' package ``schedulefree`` 1.4.1: the decay acts at the point of the
gradient, AdamW has no first moment, and an update weighs lr_max^2 t^weight_power in the average.
Deviation: the warm-up is ``scheduler.warmup_frac``, which starts at a rate of 0, where the package starts at
lr / warmup_steps; the power of lr_max is fixed at 2.
Cost: one tensor per parameter, two with the AdamW form; an interpolation per prediction, and ``statistics_batches``
forward passes before every evaluation of a model with batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import Decay, NonNegative, Positive, Range, Size
from mltricks.functional import foreach
from mltricks.optim.adam import missing_share
from mltricks.optim.base import Opt, Slots
from mltricks.optim.kernels import InPlace
from mltricks.technique import Params


@dataclass(frozen=True)
class ScheduleFreeSGD(InPlace):
    """z = z - lr (g + weight_decay y);  x = (1 - c) x + c z;  y = beta x + (1 - beta) z; predictions use x.

    The parameters are y, where the gradient g is taken, and c is the weight of this update over the sum of all weights.

    Args:
        beta: share of the average x in the point of the gradient, in (0, 1).
        weight_power: the weight of update t is lr_max^2 t^weight_power, >= 0.
        statistics_batches: training batches from which the statistics of batch norm are re-estimated for x before an
            evaluation, since those of training belong to y; ``None`` for all.
    """

    beta: Annotated[float, Range(0.0, 1.0, above=True, below=True)]
    weight_power: NonNegative
    statistics_batches: Size | None

    slots: ClassVar[tuple[str, ...]] = ("z", "largest", "total")
    shared = ("largest", "total")
    undriven = ("lr", "beta")
    shrinks = True

    def first(self, slot: str, param: Tensor) -> Tensor:
        if slot in self.shared:  # the largest learning rate so far, and the sum of the weights
            return torch.zeros((), device=param.device)
        return param.clone() if slot == "z" else torch.zeros_like(param)

    def directions(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        """What lr multiplies in the step of z, and the new tensors of the optimiser that it comes from."""
        return foreach.axpy(self.weight_decay, params, grads), {}

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        directions, new = self.directions(grads, slots, params, count)
        largest = foreach.max_(self.lr, slots["largest"])
        weight = largest[0] ** 2 * count**self.weight_power
        total = foreach.axpy_(1.0, [weight], slots["total"])
        share = torch.where(total[0] > 0, weight / total[0], 0.0)
        # x = (y - (1 - beta) z) / beta is never computed: its update in terms of y and z
        params = foreach.lerp_(slots["z"], share, params)
        params = foreach.axpy_(self.lr * (self.beta * (1 - share) - 1), directions, params)
        return params, {**new, "z": foreach.axpy_(-self.lr, directions, slots["z"]), "largest": largest, "total": total}

    def evaluate(self, params: Params, opt: Opt) -> Params:
        """The average x, with which to predict; parameters that the optimiser does not train stay as they are."""
        moving, found = {name: p for name, p in params.items() if name in opt["z"]}, dict(params)
        with foreach.unrolled():  # the members of a stack are evaluated under vmap
            for names, rule in self.parts(moving):
                y, z = [params[name] for name in names], [opt["z"][name] for name in names]
                found.update(zip(names, foreach.lerp(y, z, 1 - 1 / rule.beta), strict=True))  # type: ignore[attr-defined]
        return found


@dataclass(frozen=True)
class ScheduleFree(ScheduleFreeSGD):
    """z = z - lr (g / (sqrt(v_hat) + eps) + weight_decay y), with x, y and predictions as in ``ScheduleFreeSGD``.

    v is the average of g^2.

    Args:
        beta2: decay rate of the average squared gradient, in [0, 1).
        eps: added to the root, > 0.
    """

    beta2: Decay
    eps: Positive

    slots: ClassVar[tuple[str, ...]] = ("z", "square", "largest", "total")

    def directions(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        square = foreach.addcmul_(grads, grads, 1 - self.beta2, foreach.mul_(self.beta2, slots["square"]))
        root = missing_share(self.beta2, count).sqrt()
        denominator = foreach.shift(foreach.sqrt(square), self.eps * root)
        directions = foreach.mul_(root, foreach.div(grads, denominator))
        return foreach.axpy(self.weight_decay, params, directions), {"square": square}
