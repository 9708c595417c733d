"""Soft F1: the F1 score with probabilities in place of predictions, so that it can be descended.

Source: macro F1 (van Rijsbergen 1979) with soft counts, as in Maiza, "The Unknown Benefits of using a Soft-F1 Loss in
Classification Systems", 2019; its "double" form averages over both sides of every label.
Bias: the loss of a batch is one minus the F1 of that batch, and the mean over batches is not the F1 of the data. The
smaller the batches, the larger the difference: a class that no sample of the batch has counts with F1 = 0 and gives no
gradient at all. So batches should hold several samples of every class; micro-batches (``technique=accumulate``) make
batches smaller. On a whole split the loss is computed from the sums over all its samples, so it has no such bias.
Probabilities are uncalibrated afterwards.
Shapes: logits (B, K) float; ``y`` (B, K) float or (B,) int64, which counts as a one-hot vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mltricks.functional.targets import soft_targets
from mltricks.objectives.base import Objective
from mltricks.objectives.labels import Labels

EPSILON = 1e-7
"""Added to denominators: a label that is neither there nor predicted has F1 = 0."""
GRID = torch.linspace(0.01, 0.99, 99)
"""Probabilities among which the best constant prediction is sought."""


@dataclass(frozen=True)
class SoftF1(Labels):
    """1 - the mean over labels of 2 tp / (2 tp + fp + fn), with tp = sum p y, fp = sum p (1 - y), fn = sum (1 - p) y.

    Args:
        double: average over labels and their complements, so that true negatives count as well.
    """

    double: bool

    needs_whole_batch: ClassVar[bool] = True
    takes_weights: ClassVar[bool] = False

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        return 1 - self.f1_of(soft_counts(logits.sigmoid(), self.shares_of(logits, y))).mean()

    per_sample = Objective.per_sample  # type: ignore[assignment]

    def f1_of(self, counts: Tensor) -> Tensor:
        """The F1 of every label (..., K) from the counts (..., 4, K) that ``soft_counts`` gives."""
        hits, predicted, there, size = counts.unbind(-2)
        f1 = 2 * hits / (predicted + there + EPSILON)
        if self.double:
            misses = size - predicted - there + hits
            f1 = (f1 + 2 * misses / (2 * size - predicted - there + EPSILON)) / 2
        return f1

    def counts(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        wide = torch.float32 if logits.device.type == "mps" else torch.float64  # which MPS lacks
        soft = soft_counts(logits.to(wide).sigmoid(), self.shares_of(logits, y).to(wide))
        return {**super().counts(logits, y), "soft": soft}

    def from_counts(self, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        hard = super().from_counts({key: value for key, value in counts.items() if key != "soft"})
        return {**hard, "loss": 1 - self.f1_of(counts["soft"].cpu()).mean(-1)}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant logits (K,) of the best F1 of every label, among those of probabilities from 0.01 to 0.99."""
        shares = soft_targets(y, num_outputs).reshape(len(y), num_outputs).cpu()
        there, size = shares.sum(0), torch.full((num_outputs,), float(len(y)))
        f1 = [self.f1_of(torch.stack([p * there, p * size, there, size])) for p in GRID]
        return GRID[torch.stack(f1).argmax(0)].logit().to(y.device)


def soft_counts(p: Tensor, shares: Tensor) -> Tensor:
    """Per label the sums of hits, of predictions, of samples that have it, and of samples: (4, K).

    Shapes: probabilities p (B, K), targets (B, K).
    """
    return torch.stack([(p * shares).sum(0), p.sum(0), shares.sum(0), torch.ones_like(p).sum(0)])
