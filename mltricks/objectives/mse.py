"""Mean squared error on one-hot classes.

Source: Hui and Belkin, "Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in Classification
Tasks", 2021, arXiv:2006.07322, section 2 and the rescaling of section 5: the outputs are compared as they are, without
a softmax. For values as targets the squared error is ``objective=regress``.
Shapes: outputs (B, K) float; ``y`` (B,) int64 or (B, K) float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mltricks.config.values import Positive
from mltricks.functional.targets import soft_targets
from mltricks.objectives.classify import Classify


@dataclass(frozen=True)
class Mse(Classify):
    """The mean over samples and classes of y weight (f - target)^2 + (1 - y) f^2.

    Args:
        weight: of the true class, > 0 (the source's k).
        target: the output that is wanted for the true class, > 0 (the source's M); 0 is wanted for the others.
    """

    weight: Positive
    target: Positive

    takes_weights: ClassVar[bool] = False

    def mean(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.per_sample(outputs, y).mean()

    def per_sample(self, outputs: Tensor, y: Tensor) -> Tensor:
        shares = soft_targets(y, outputs.shape[1])
        losses = shares * self.weight * (outputs - self.target).square() + (1 - shares) * outputs.square()
        return losses.mean(1)

    def wanted(self, p: Tensor) -> Tensor:
        """The outputs of least loss where the classes have probabilities ``p``."""
        return self.target * self.weight * p / (1 + (self.weight - 1) * p)

    def predict(self, outputs: Tensor) -> Tensor:
        """Estimated probabilities: those whose ``wanted`` outputs these are, cut at 0 and 1 and scaled to the sum 1."""
        share = (outputs / self.target).clamp(0, 1)
        p = share / (self.weight - (self.weight - 1) * share)
        total = p.sum(-1, keepdim=True)
        return torch.where(total > 0, p / total.clamp_min(1e-12), 1 / p.shape[-1])

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant outputs (K,) that fit all targets best."""
        return self.wanted(soft_targets(y, num_outputs).mean(0))

    def linear(self, x: Tensor, y: Tensor, num_outputs: int):  # type: ignore[no-untyped-def]
        """The probabilities of a logistic regression, as outputs."""
        found = super().linear(x, y, num_outputs)
        return None if found is None else lambda x: self.wanted(found(x).softmax(1))

    def ignorant(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(outputs), f"{self.weight * self.target**2:g}/{outputs.shape[1]}"
