"""Classification by cross-entropy, with class indices or class probabilities as targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.batch import Batch
from mltricks.technique import Aux, Ctx, Params


@dataclass(frozen=True)
class Classify:
    """Mean cross-entropy between the model's logits and ``y``.

    Shapes: logits (B, K) float; ``y`` (B,) int64 or (B, K) float.
    """

    score: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("classes",)

    def __call__(self, params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        return self.judge(ctx.apply(params, batch["x"]), batch["y"])

    def judge(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Aux]:
        """The loss of given logits, with its metrics."""
        loss = F.cross_entropy(logits, y) if y.ndim == 1 else soft_cross_entropy(logits, y)
        return loss, {"metrics": {"loss": loss, **self.metrics(logits, y)}}

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of every sample, (B,)."""
        return F.cross_entropy(logits, y, reduction="none")

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Share of samples whose largest logit is the (most probable) target class."""
        target = y.argmax(1) if y.ndim == 2 else y
        return {"accuracy": (logits.argmax(1) == target).float().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The logits (K,) that fit all targets best whatever the input: log shares, of classes that are missing too."""
        counts = torch.bincount(y, minlength=num_outputs).float() if y.ndim == 1 else y.sum(0)
        return ((counts + 1) / (counts.sum() + num_outputs)).log()

    def predict(self, logits: Tensor) -> Tensor:
        """Logits to probabilities."""
        return logits.softmax(-1)


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy against class probabilities; for those of a single class the same number as for its index.

    Shapes: logits (B, K) float, ``y`` (B, K) float -> 0-d.
    """
    losses_B = F.cross_entropy(logits, y, reduction="none")
    # nll_loss sums in an order of its own: taking the mean with it, a technique that is switched off changes no bit
    return F.nll_loss(-losses_B.unsqueeze(1), y.new_zeros(len(y), dtype=torch.int64))
