"""Frozen scales: batch norms keep their scale, and only their shift is trained.

Source: Page, "How to Train Your ResNet 8: Bag of Tricks", 2019, "frozen batch norm scales"; Jordan 2024,
arXiv:2404.00498.
Deviation: the scales stay what they are at the start, which is 1 unless the model has trained weights; Page first has
1/4, then 1 with CELU's alpha times 4, and 16 to 64 times the learning rate of the shifts: settings of model and optim.
Cost: none; the gradients of the scales are not computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mltricks.batch import Batch
from mltricks.technique import Own, Params, Technique


@dataclass(frozen=True)
class FrozenBnScale(Technique):
    """The scales of batch norms are constants: neither the gradient nor weight decay changes them."""

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.affine}
        moving = {name: m for name, m in norms.items() if m.weight.requires_grad}
        if not moving:
            what = "has frozen them all already" if norms else "has none"
            raise ValueError(
                f"technique=frozen_bn_scale freezes the scales of batch norms, and {type(model).__name__} {what}. "
                "Leave frozen_bn_scale out, or type a model with batch norm, such as model=resnet9."
            )
        for name, norm in moving.items():
            if not norm.weight.any():
                raise ValueError(
                    f"technique=frozen_bn_scale would keep the scale of {name} at 0, so nothing behind it would learn. "
                    "Type init=default, +model.arguments.zero_init_last=false with a model of timm, or leave "
                    "frozen_bn_scale out."
                )
            norm.weight.requires_grad_(False)  # such parameters are frozen, and the optimiser never sees them
        return params, {}
