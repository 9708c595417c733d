"""Adam with decoupled weight decay.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, arXiv:1711.05101, algorithm 2, in the form
of ``torch.optim.AdamW`` (the decay is multiplied by the learning rate). Cost: two tensors per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.functional import foreach
from mltricks.optim.adam import Adam


@dataclass(frozen=True)
class AdamW(Adam):
    """p = (1 - lr weight_decay) p, then Adam's step with the gradient alone."""

    kernel = staticmethod(torch._fused_adamw_)
    shrinks = True

    def decayed(self, grads: list[Tensor], params: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return grads, foreach.mul(params, 1 - self.lr * self.weight_decay)
