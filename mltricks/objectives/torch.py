"""Any loss of ``torch.nn`` by its name, on class numbers or on values.

Source: the class's own documentation; the loss of a batch is the class's own, with its ``reduction`` of the mean.
Deviation: class weights are refused, because the mean over a split would then depend on how it is cut into batches.
Shapes: B batch, K classes, D values.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mltricks.config.values import suggest
from mltricks.objectives.classify import Classify
from mltricks.objectives.regress import Regress

REFUSED = {
    "reduction": "mltricks takes the mean over a batch, and the loss of every sample",
    "size_average": "torch has replaced it by reduction",
    "reduce": "torch has replaced it by reduction",
    "weight": "the mean over a split would depend on its batches; take class_weights of objective=classify, or "
    "sampler=balanced",
    "pos_weight": "the mean over a split would depend on its batches",
    "ignore_index": "the mean over a split would depend on its batches",
}
"""Arguments that a configuration may not give, with the reasons."""


@dataclass(frozen=True)
class TorchClassify(Classify):
    """A loss on logits (B, K) and class numbers (B,).

    Args:
        name: the class.
        arguments: its arguments; ``None`` for none.

    Raises:
        ValueError: an unknown class or argument, or a loss that takes no logits and class numbers.
    """

    name: str
    arguments: dict[str, Any] | None

    takes_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_losses(self, torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), "logits and class numbers")

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        if y.ndim == 1:
            return self.losses["mean"](logits, y)  # type: ignore[attr-defined]
        return self.blended(logits, y).mean()

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        return self.losses["none"](logits, y) if y.ndim == 1 else self.blended(logits, y)  # type: ignore[attr-defined]

    def blended(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of every sample (B,) for shares of the classes (B, K)."""
        loss = self.losses["none"]  # type: ignore[attr-defined]
        if isinstance(loss, nn.CrossEntropyLoss):
            return loss(logits, y)
        numbers = torch.arange(y.shape[1], device=y.device)
        parts = [loss(logits, k.expand(len(y))) * share for k, share in zip(numbers, y.unbind(1), strict=True)]
        return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class TorchRegress(Regress):
    """A loss on outputs (B, D) and values of the same shape.

    Args:
        name: the class.
        arguments: its arguments; ``None`` for none.

    Raises:
        ValueError: an unknown class or argument, or a loss that does not take two tensors of one shape.
    """

    name: str
    arguments: dict[str, Any] | None

    def __post_init__(self) -> None:
        keep_losses(self, torch.rand(2, 3), torch.rand(2, 3), "outputs and values of one shape")

    def mean(self, output: Tensor, y: Tensor) -> Tensor:
        return self.losses["mean"](output, y.reshape(output.shape))  # type: ignore[attr-defined]

    def per_sample(self, output: Tensor, y: Tensor) -> Tensor:
        return self.losses["none"](output, y.reshape(output.shape)).flatten(1).mean(1)  # type: ignore[attr-defined]


def keep_losses(owner: Any, outputs: Tensor, y: Tensor, takes: str) -> None:
    """Make the loss with both reductions, and try it on examples of outputs and targets.

    Raises:
        ValueError: the class or its arguments cannot be used.
    """
    cls, given = find(owner.name), owner.arguments or {}
    known = [name for name in inspect.signature(cls).parameters if name not in REFUSED]
    for argument in given:
        if argument in REFUSED:
            raise ValueError(f"objective.arguments has {argument}, which is refused: {REFUSED[argument]}.")
        if argument not in known:
            raise ValueError(
                f"objective.arguments has {argument}, which {owner.name} does not take. {suggest(argument, known)}"
            )
    try:
        losses = {reduction: cls(**given, reduction=reduction) for reduction in ("mean", "none")}
        shape = losses["none"](outputs, y).shape
    except Exception as error:  # a loss may raise anything
        raise ValueError(
            f"objective.name={owner.name} does not take {takes} with objective.arguments={given}: {error}"
        ) from error
    if shape != y.shape:
        raise ValueError(f"objective.name={owner.name} does not give a loss for every sample from {takes}.")
    object.__setattr__(owner, "losses", losses)


def find(name: str) -> Any:
    """The loss of ``torch.nn`` with this name.

    Raises:
        ValueError: there is none.
    """
    known = {n: c for n, c in vars(nn).items() if inspect.isclass(c) and n.endswith("Loss")}
    if name not in known:
        raise ValueError(f"objective.name={name} is no loss of torch.nn. {suggest(name, known)}")
    return known[name]
