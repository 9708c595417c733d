"""The base of objectives with one sigmoid per class: for sets of labels, and for single classes as one-hot vectors.

Shapes: B batch, K labels or classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.options import option_of
from mltricks.config.values import Probability
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit, Split
from mltricks.figures.parts import Section
from mltricks.functional.targets import soft_targets
from mltricks.objectives.base import Outcome, Sheet
from mltricks.objectives.class_weights import weights_of
from mltricks.objectives.classify import Classify
from mltricks.objectives.label_sections import errors_section, most_wrong, names_of, ranking_section, scores_section

TRUE = 0.5
"""A target counts as a label from this share on; mixed targets lie between 0 and 1."""


@dataclass(frozen=True)
class Labels(Classify):
    """An objective on logits (B, K), for targets that are sets of labels (B, K) float or classes (B,) int64.

    Sets of labels have the metrics ``exact_match``, the share of samples whose set is predicted without a mistake, and
    ``f1``, the mean F1 over the labels.

    Args:
        threshold: probability from which on a label is predicted, in [0, 1]; of classes the most probable one is.

    Attributes:
        sets: whether targets are sets of labels; ``None`` before ``fitted``, when their number of axes decides.
    """

    threshold: Probability
    sets: bool | None = field(default=None, init=False, repr=False, compare=False)

    targets: ClassVar[tuple[str, ...]] = ("labels", "classes", "values")
    score: ClassVar[str] = "f1"

    def fitted(self, data: DataSplits) -> Labels:
        """The objective with the class weights of these data, each on the positive term of its class."""
        sets = are_sets(data.info)
        if sets:
            check_shares(data, self)
        else:
            self.check_idle()
        return self.told(weights=weights_of(self.class_weights, data, one_against_rest=True), sets=sets)

    def check_idle(self) -> None:
        """Refuse a threshold on classes, of which the most probable one is predicted.

        Raises:
            ValueError: it is not 0.5, its default.
        """
        if self.threshold != TRUE:
            raise ValueError(
                f"objective.threshold={self.threshold} is for sets of labels, and these targets are classes, of which "
                f"the most probable one is predicted. Leave it at {TRUE}."
            )

    def family(self, info: Info) -> str:
        return "multilabel" if are_sets(info) else self.further

    def shares_of(self, logits: Tensor, y: Tensor) -> Tensor:
        """Targets as one number in [0, 1] for every logit."""
        return soft_targets(y, logits.shape[1]).reshape(logits.shape)

    def as_sets(self, y: Tensor) -> bool:
        """Whether targets of this shape are sets; mixed classes have the shape of sets."""
        return y.is_floating_point() and self.sets is not False

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        if not self.as_sets(y):
            return super().metrics(logits, y)
        right = self.predicted(logits) == (y.reshape(logits.shape) >= TRUE)
        return {"exact_match": right.all(1).float().mean()}

    def predicted(self, logits: Tensor) -> Tensor:
        """The predicted sets, (B, K) bool."""
        return logits.sigmoid() >= self.threshold

    def counts(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        if not self.as_sets(y):
            return super().counts(logits, y)
        predicted, there = self.predicted(logits), y.reshape(logits.shape) >= TRUE
        return {"classes": torch.stack([(predicted & there).sum(0), predicted.sum(0), there.sum(0)])}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The log odds of every label (K,), with one sample added to each side: finite for absent labels."""
        there = soft_targets(y, num_outputs).reshape(len(y), num_outputs).sum(0)
        weighted = there if self.weights is None else there * self.weights.to(there.device)
        return ((weighted + 1) / (len(y) - there + 1)).log()

    def linear(self, x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor] | None:
        found = None if y.is_floating_point() else super().linear(x, y, num_outputs)
        return None if found is None else lambda x: found(x).softmax(1).logit(1e-6)

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(logits), "the loss of probabilities that are all 1/2"

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        if not are_sets(info):
            return super().noise(info, size, device)
        return torch.randint(2, (size, info.num_outputs), device=device).float()

    def predict(self, logits: Tensor) -> Tensor:
        """Convert logits to a probability for every label; those of classes do not add up to 1."""
        return logits.sigmoid()

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        """The predicted labels, and all probabilities by name."""
        if not are_sets(info):
            yield from super().rows(predictions, info)
            return
        for output in predictions:
            probabilities = {name: float(p) for name, p in zip(info.class_names, output, strict=True)}
            yield {"labels": names_of(output >= self.threshold, info), "probabilities": probabilities}

    def truth(self, y: Tensor, info: Info) -> Any:
        return names_of(y.reshape(-1) >= TRUE, info) if are_sets(info) else super().truth(y, info)

    def target_words(self, info: Info) -> str:
        return f"a set of {info.num_outputs} labels" if are_sets(info) else super().target_words(info)

    def caption(self, y: Tensor, info: Info) -> str:
        return names_of(y.reshape(-1) >= TRUE, info) if are_sets(info) else super().caption(y, info)

    def shares(self, split: Split) -> Tensor | None:
        """The share of samples that have the label, for every label; the shares of sets do not add up to 1."""
        if split.labels is None and isinstance(split, MemorySplit):
            return split.y.reshape(len(split), -1).cpu().double().mean(0)
        return super().shares(split)

    def digest(self, logits: Tensor, y: Tensor) -> Outcome:
        if not self.as_sets(y):
            return super().digest(logits, y)
        return {"sets": y.reshape(logits.shape) >= TRUE, "probabilities": self.predict(logits)}

    def mistakes(self, outcome: Outcome, info: Info, most: int) -> tuple[Tensor, dict[str, list[Any]]]:
        """Of sets, the samples with the most wrong labels."""
        if "sets" not in outcome:
            return super().mistakes(outcome, info, most)
        order = most_wrong(outcome, self.threshold, most)
        parts = (("true", outcome["sets"]), ("predicted", outcome["probabilities"] >= self.threshold))
        said = {word: [names_of(row, info) for row in part[order]] for word, part in parts}
        return order, {**said, "test sample": order.tolist()}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        if "sets" not in outcome:
            return super().sections(outcome, sheet)
        return [
            partial(part, outcome, sheet, self.threshold) for part in (scores_section, ranking_section, errors_section)
        ]


def are_sets(info: Info) -> bool:
    """Whether targets of these data are sets of labels."""
    return info.target != "classes"


def check_shares(data: DataSplits, objective: Labels) -> None:
    """Refuse targets that are no sets: values beyond 0 to 1.

    Raises:
        ValueError: names the range of the targets.
    """
    if not isinstance(data.train, MemorySplit):
        return
    low, high = float(data.train.y.min()), float(data.train.y.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"objective={option_of('objective', objective)} takes 0 or 1 for every label, and these targets go from "
            f"{low:g} to {high:g}. Type objective=regress."
        )
