"""Language modelling: the cross-entropy of the next token at every position.

Shapes: B batch, L length, K vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.data.info import Info
from mltricks.figures.parts import Chart, Marked, Section, Text
from mltricks.objectives.analysis import log_shares
from mltricks.objectives.base import Objective, Outcome, Sheet

NUM_TEXTS = 3


@dataclass(frozen=True)
class NextToken(Objective):
    """Mean cross-entropy over all positions, in nats per token.

    Shapes: logits (B, L, K) float; ``y`` (B, L) int64.
    """

    targets: ClassVar[tuple[str, ...]] = ("tokens",)
    outputs: ClassVar[str] = "vocabulary of {:,}"
    one_target: ClassVar[bool] = False

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.transpose(1, 2), y, reduction="none").mean(1)

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Accuracy: the share of positions whose next token is the most probable one."""
        return {"accuracy": (logits.argmax(-1) == y).float().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant logits (L, K) that fit all targets best: log token frequencies at every position."""
        shares = log_shares(torch.bincount(y.flatten(), minlength=num_outputs).float())
        return shares.expand(y.shape[1], num_outputs)

    def output_shape(self, info: Info) -> tuple[int, ...]:
        return (*info.in_shape, info.num_outputs)

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        return torch.randint(info.num_outputs, (size, *info.in_shape), device=device)

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(logits), f"ln {logits.shape[-1]}"

    def predict(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities of the next token."""
        return logits.softmax(-1)

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        raise ValueError(
            "job=predict writes classes or values; this model predicts tokens. Use mltricks.load in Python."
        )

    def digest(self, logits: Tensor, y: Tensor) -> Outcome:
        loss = F.cross_entropy(logits.transpose(1, 2), y, reduction="none")
        first = {"text": y[:1], "guess": logits[:1].argmax(-1), "loss": loss[:1]}
        return {"loss_sum": loss.cpu().double().sum(0)[None], "count": torch.full((1,), len(y)), **first}

    def target_words(self, info: Info) -> str:
        return f"the next of {info.num_outputs} tokens at each position"

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        return [partial(positions_section, outcome, sheet), partial(text_section, outcome, sheet)]


def positions_section(outcome: Outcome, sheet: Sheet) -> Section:
    """The loss at every position of the sequence."""
    from mltricks.figures.predictions import loss_by_position

    losses = outcome["loss_sum"].sum(0) / outcome["count"].sum()
    return Section("Loss by position", [Chart("loss_by_position", loss_by_position(losses.tolist()), still=True)])


def text_section(outcome: Outcome, sheet: Sheet) -> Section:
    """Windows of the test split, each token shaded by its loss, and the tokens that the model held most probable."""
    names = sheet.info.class_names
    most = math.log(len(names))
    parts: list[Marked | Text] = [
        Text(
            "Each token is shaded by its loss: none where the model was sure, full where it was no better than chance."
        )
    ]
    for text, guess, loss in list(zip(outcome["text"], outcome["guess"], outcome["loss"], strict=True))[:NUM_TEXTS]:
        parts.append(
            Marked([(names[k], min(v / most, 1.0)) for k, v in zip(text.tolist(), loss.tolist(), strict=True)])
        )
        parts.append(Text("The most probable next tokens: " + "".join(names[k] for k in guess.tolist())))
    return Section("Samples of text", parts)
