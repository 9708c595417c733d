"""Language modelling: the cross-entropy of the next token at every position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.batch import Batch
from mltricks.technique import Aux, Ctx, Params


@dataclass(frozen=True)
class NextToken:
    """Mean cross-entropy over all positions, in nats per token.

    Shapes: logits (B, L, K) float; ``y`` (B, L) int64.
    """

    score: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ("tokens",)

    def __call__(self, params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        return self.judge(ctx.apply(params, batch["x"]), batch["y"])

    def judge(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Aux]:
        """The loss of given logits, with its metrics."""
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        return loss, {"metrics": {"loss": loss, **self.metrics(logits, y)}}

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of every sequence, (B,), a mean over its positions."""
        return F.cross_entropy(logits.transpose(1, 2), y, reduction="none").mean(1)

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Share of positions whose next token is the most probable one."""
        return {"accuracy": (logits.argmax(-1) == y).float().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The logits (L, K) that fit all targets best whatever the input: log shares of the tokens, everywhere."""
        counts = torch.bincount(y.flatten(), minlength=num_outputs).float()
        return ((counts + 1) / (counts.sum() + num_outputs)).log().expand(y.shape[1], num_outputs)

    def predict(self, logits: Tensor) -> Tensor:
        """Logits to the probabilities of the next token."""
        return logits.softmax(-1)
