"""Focal loss: samples that are predicted well count less.

Source: Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", 2017, arXiv:1708.02002, equations 4
and 5; the sigmoid form is ``torchvision.ops.sigmoid_focal_loss``.
Deviation: the mean over samples (and labels); the source divides by the number of positives, as detection has few.
The source also starts the last bias at -log(99), so that the many negatives do not swamp the first updates.
Shapes: logits (B, K) float; ``y`` (B,) int64 or (B, K) float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.config.values import NonNegative, Probability
from mltricks.data.splits import DataSplits
from mltricks.functional.focal import focal_factor
from mltricks.objectives.class_weights import weights_of
from mltricks.objectives.classify import Classify, mean_as_nll
from mltricks.objectives.labels import Labels, are_sets


@dataclass(frozen=True)
class Focal(Labels):
    """The mean of -(1 - p)^gamma log p, with p the probability of the truth: cross-entropy at gamma = 0.

    Args:
        form: ``softmax`` over classes, or one ``sigmoid`` for each class or label.
        gamma: exponent, >= 0.
        alpha: of the sigmoid form, weight of positives; negatives have 1 - alpha; in [0, 1]. ``None`` for none.
    """

    form: Literal["softmax", "sigmoid"]
    gamma: NonNegative
    alpha: Probability | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "softmax" and self.alpha is not None:
            raise ValueError(
                f"objective.alpha={self.alpha} weighs positives against negatives, which objective.form=softmax does "
                "not have. Type objective.form=sigmoid, or objective.class_weights."
            )
        if self.alpha is not None and self.class_weights is not None:
            raise ValueError("objective.alpha and objective.class_weights both weigh positives. Leave one out.")

    def fitted(self, data: DataSplits) -> Focal:
        if self.form == "softmax" and are_sets(data.info):
            raise ValueError(
                f"objective.form=softmax is for one class a sample, and the targets are {data.info.target}. "
                "Type objective.form=sigmoid."
            )
        if self.form == "softmax":
            self.check_idle()
            return self.told(weights=weights_of(self.class_weights, data), sets=False)
        return super().fitted(data)  # type: ignore[return-value]

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        # at gamma = 0 the softmax form has the same bits as objective=classify
        return mean_as_nll(self.per_sample(logits, y))

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        weights = self.weights_beside(logits)
        if self.form == "softmax" and not y.is_floating_point():
            losses = F.cross_entropy(logits, y, reduction="none")
            losses = losses * focal_factor(losses, self.gamma)
            return losses if weights is None else losses * weights.index_select(0, y)
        shares = self.shares_of(logits, y)
        if self.form == "softmax":
            losses = -logits.log_softmax(1)
            weighted = shares if weights is None else shares * weights
            return (weighted * losses * focal_factor(losses, self.gamma)).sum(1)
        positive, negative = self.side_weights(weights)
        yes, no = F.softplus(-logits), F.softplus(logits)
        gains = positive * shares * yes * focal_factor(yes, self.gamma)
        return (gains + negative * (1 - shares) * no * focal_factor(no, self.gamma)).mean(1)

    def side_weights(self, weights: Tensor | None) -> tuple[float | Tensor, float]:
        """The weights of positives and of negatives in the sigmoid form."""
        if self.alpha is not None:
            return self.alpha, 1 - self.alpha
        return (1.0 if weights is None else weights), 1.0

    def predict(self, logits: Tensor) -> Tensor:
        return Classify.predict(self, logits) if self.form == "softmax" else super().predict(logits)

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant logits (K,) that fit all targets best by cross-entropy."""
        return (Classify if self.form == "softmax" else Labels).constant(self, y, num_outputs)

    def linear(self, x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor] | None:
        return (Classify if self.form == "softmax" else Labels).linear(self, x, y, num_outputs)

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        classes = logits.shape[1] if self.form == "softmax" else 2
        weighted = "" if self.alpha is None and self.weights is None else ", times the weights"
        return torch.zeros_like(logits), f"(1 - 1/{classes})^{self.gamma:g} ln {classes}{weighted}"
