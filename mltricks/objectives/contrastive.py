"""Contrastive loss: draw the embeddings of similar pairs together, and push others apart up to a margin.

Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, equation 4
(``mltricks.functional.pair_loss``).
Deviation: 1 means similar here, as a class; the source's Y is 1 for dissimilar pairs.
Shapes: B batch, D embedding; outputs (B, 2, D) float, ``y`` (B,) int64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import Positive
from mltricks.data.info import Info
from mltricks.data.splits import Split
from mltricks.figures.parts import Cell, Chart, Compact, Section, Text
from mltricks.functional.pair_loss import pair_loss
from mltricks.objectives.analysis import precision_recall
from mltricks.objectives.base import Objective, Outcome, Sheet


@dataclass(frozen=True)
class Contrastive(Objective):
    """The mean of 1/2 d^2 for similar pairs and 1/2 max(0, margin - d)^2 for others, with d = |left - right|.

    Args:
        margin: distance from which on dissimilar pairs cost nothing, > 0.
        threshold: distance below which a pair is predicted to be similar, > 0; ``None`` for half the margin.
    """

    margin: Positive
    threshold: Positive | None

    targets: ClassVar[tuple[str, ...]] = ("similarity",)
    outputs: ClassVar[str] = "two embeddings"
    score: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def per_sample(self, outputs: Tensor, y: Tensor) -> Tensor:
        squares = (outputs[:, 0] - outputs[:, 1]).square().sum(1)
        return pair_loss(squares, y == 1, self.margin)

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Accuracy: the share of pairs on the right side of the threshold."""
        return {"accuracy": (self.similar(self.predict(outputs)) == (y == 1)).float().mean()}

    def similar(self, distances: Tensor) -> Tensor:
        """Whether pairs are predicted to be similar, bool."""
        return distances < (self.margin / 2 if self.threshold is None else self.threshold)

    def output_shape(self, info: Info) -> None:
        return None

    def check_outputs(self, outputs: Any, size: int, info: Info) -> None:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        if not isinstance(outputs, Tensor) or outputs.ndim != 3 or outputs.shape[:2] != (size, 2):
            raise ValueError(
                f"gives {got} for a batch of {size} pairs, and two embeddings of each are wanted, {(size, 2)} + (D,). "
                "Type model=siamese"
            )

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        return torch.randint(2, (size,), device=device)

    def ignorant(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(outputs), "the loss of embeddings that are all equal"

    def predict(self, outputs: Tensor) -> Tensor:
        """Convert embeddings to the distance of every pair, (B,)."""
        return (outputs[:, 0] - outputs[:, 1]).square().sum(1).sqrt()

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        """Whether the pair is similar, and the distance of its embeddings."""
        for distance in predictions:
            yield {"class": info.class_names[int(self.similar(distance))], "distance": float(distance)}

    def truth(self, y: Tensor, info: Info) -> Any:
        return info.class_names[int(y)]

    def target_words(self, info: Info) -> str:
        return "whether the two are similar"

    def caption(self, y: Tensor, info: Info) -> str:
        return info.class_names[int(y)] if y.ndim == 0 else ""

    def shares(self, split: Split) -> Tensor | None:
        return None if split.labels is None else torch.bincount(split.labels).double() / len(split.labels)

    def digest(self, outputs: Tensor, y: Tensor) -> Outcome:
        return {"y": y, "distance": self.predict(outputs)}

    def mistakes(self, outcome: Outcome, info: Info, most: int) -> tuple[Tensor, dict[str, list[Any]]]:
        """The pairs on the wrong side of the threshold, the farthest from it first."""
        distances, y = outcome["distance"], outcome["y"]
        wrong = (self.similar(distances) != (y == 1)).nonzero()[:, 0]
        edge = self.margin / 2 if self.threshold is None else self.threshold
        order = wrong[(distances[wrong] - edge).abs().argsort(descending=True, stable=True)][:most]
        true = [info.class_names[int(k)] for k in y[order]]
        return order, {"true": true, "distance": distances[order].tolist(), "test sample": order.tolist()}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        found = bool((outcome["y"] == 1).any())  # without similar pairs there is no recall
        parts = (distances_section, ranking_section) if found else (distances_section,)
        return [partial(part, outcome, sheet) for part in parts]


def distances_section(outcome: Outcome, sheet: Sheet) -> Section:
    """The quartiles of the distances of similar and of other pairs."""
    rows = []
    for k, name in enumerate(sheet.info.class_names):
        found = outcome["distance"][outcome["y"] == k]
        quartiles = found.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() if len(found) else []
        rows.append([Cell(name), Cell(f"{len(found):,}"), *(Cell(f"{q:.3f}") for q in quartiles)])
    table = Compact(["pairs", "number", "lower quartile", "median", "upper quartile"], rows)
    return Section("Distances of the test pairs", [table], half=True)


def ranking_section(outcome: Outcome, sheet: Sheet) -> Section:
    """Precision against recall of similar pairs over all thresholds."""
    from mltricks.figures.predictions import precision_recall as draw

    curve = precision_recall(-outcome["distance"], outcome["y"] == 1)
    said = "Similar pairs, over all thresholds of the distance. The number in the legend is the average precision."
    return Section("Precision and recall", [Chart("precision_recall", draw({"similar": curve})), Text(said)], half=True)
