"""Binary cross-entropy: every label is a yes-or-no question of its own.

Source: ``torch.nn.functional.binary_cross_entropy_with_logits``, with the mean over samples and labels. On classes:
Wightman, Touvron, Jegou, "ResNet strikes back", 2021, arXiv:2110.00476, section 3, with timm's ``target_threshold``.
Shapes: logits (B, K) float; ``y`` (B, K) float, or (B,) int64, which counts as a one-hot vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from mltricks.config.values import Range
from mltricks.objectives.labels import Labels


@dataclass(frozen=True)
class Bce(Labels):
    """The mean over labels of -(w y log p + (1 - y) log(1 - p)), with p = sigmoid(logit) and w the class weight.

    Args:
        target_threshold: makes mixed targets 1 above it and 0 elsewhere, in [0, 1); ``None`` leaves them.
    """

    target_threshold: Annotated[float, Range(0.0, 1.0, below=True)] | None

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        return self.per_sample(logits, y).mean()

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        shares = self.shares_of(logits, y)
        if self.target_threshold is not None:
            shares = (shares > self.target_threshold).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(
            logits, shares, pos_weight=self.weights_beside(logits), reduction="none"
        ).mean(1)

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        zeros, _ = super().ignorant(logits, y)
        return zeros, "ln 2" if self.weights is None else "ln 2, weighted by class"
