"""Semantic segmentation by cross-entropy over the classes of every pixel.

Shapes: B batch, K classes, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.data.info import Info
from mltricks.figures.base import SERIES
from mltricks.figures.parts import Gallery, Section, Table, Text
from mltricks.objectives.analysis import log_shares
from mltricks.objectives.base import Objective, Outcome, Sheet
from mltricks.objectives.classify import class_counts

NUM_WORST = 8


@dataclass(frozen=True)
class Segment(Objective):
    """Mean cross-entropy over all pixels; the score is the mean intersection over union.

    Shapes: logits (B, K, H, W) float; ``y`` (B, H, W) int64.
    """

    targets: ClassVar[tuple[str, ...]] = ("mask",)
    outputs: ClassVar[str] = "{:,} classes"
    score: ClassVar[str] = "iou"
    higher_is_better: ClassVar[bool] = True
    one_target: ClassVar[bool] = False
    further: ClassVar[str] = "multiclass"

    def mean(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.movedim(1, -1).flatten(0, -2), y.flatten())

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="none").mean((1, 2))

    def metrics(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Accuracy: the share of pixels whose largest logit is at their class."""
        return {"accuracy": (logits.argmax(1) == y).float().mean()}

    def counts(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"classes": class_counts(logits.argmax(1).flatten(), y.flatten(), logits.shape[1])}

    def from_counts(self, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"iou": mean_iou(counts["classes"])}

    def output_shape(self, info: Info) -> tuple[int, ...]:
        return (info.num_outputs, *info.in_shape[1:])

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        return torch.randint(info.num_outputs, (size, *info.in_shape[1:]), device=device)

    def ignorant(self, logits: Tensor, y: Tensor) -> tuple[Tensor, str]:
        return torch.zeros_like(logits), f"ln {logits.shape[1]}"

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The same logits at every pixel, (K, H, W): the log of the classes' shares, with one pixel added to each."""
        shares = log_shares(torch.bincount(y.flatten(), minlength=num_outputs).float())
        return shares[:, None, None].expand(-1, *y.shape[1:])

    def predict(self, logits: Tensor) -> Tensor:
        """Convert logits to class probabilities at every pixel."""
        return logits.softmax(1)

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        """The share of pixels predicted as each class."""
        for sample in predictions:
            share = torch.bincount(sample.argmax(0).flatten(), minlength=info.num_outputs) / sample[0].numel()
            yield {f"share_{name}": float(s) for name, s in zip(info.class_names, share, strict=True)}

    def truth(self, y: Tensor, info: Info) -> str:
        """The classes that occur in the mask."""
        return " ".join(info.class_names[int(k)] for k in y.unique())

    def digest(self, logits: Tensor, y: Tensor) -> Outcome:
        mask = logits.argmax(1)
        right = (mask == y).float().mean((1, 2))
        bad = right.argsort(stable=True)[:NUM_WORST]
        shown = {"bad": bad, "bad_true": y[bad].to(torch.int16), "bad_mask": mask[bad].to(torch.int16)}
        size = {"size": torch.full((len(bad),), len(y)), "batch_of": torch.arange(len(bad)).eq(0).long()}
        return {"counts": self.counts(logits, y)["classes"][None], "right": right, **shown, **size}

    def target_pictures(self, y: Tensor) -> Tensor | None:
        return painted(y.cpu())

    def target_words(self, info: Info) -> str:
        return f"one of {info.num_outputs} classes at each pixel"

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        return [partial(overlap_section, outcome, sheet), partial(masks_section, outcome, sheet)]


def ious(counts: Tensor) -> Tensor:
    """Intersection over union of every class, of ``class_counts``: (..., 3, K) to (..., K); NaN for absent classes."""
    hits, predicted, there = counts.cpu().double().unbind(-2)
    return hits / (predicted + there - hits)


def mean_iou(counts: Tensor) -> Tensor:
    """The mean of the intersection over union, over the classes that occur.

    >>> mean_iou(torch.tensor([[1, 1, 0], [1, 2, 0], [2, 1, 0]]))
    tensor(0.5000, dtype=torch.float64)
    """
    return ious(counts).nanmean(-1)


def overlap_section(outcome: Outcome, sheet: Sheet) -> Section:
    """A table of the intersection over union of every class, lowest first."""
    counts = outcome["counts"].sum(0)
    rows = [(n, int(c), float(i)) for n, c, i in zip(sheet.info.class_names, counts[2], ious(counts), strict=True) if c]
    table = Table(["class", "pixels", "intersection over union"], sorted(rows, key=lambda row: row[2]))
    return Section("Classes, the weakest first", [table])


def positions_of(outcome: Outcome) -> Tensor:
    """The positions in the test split of the kept masks: their batch's first sample plus their place in the batch."""
    first = outcome["batch_of"].bool()
    sizes = outcome["size"][first]
    starts = sizes.cumsum(0) - sizes
    return outcome["bad"] + starts[first.long().cumsum(0) - 1]


def masks_section(outcome: Outcome, sheet: Sheet) -> Section:
    """The samples with the fewest right pixels: picture, true mask and predicted mask beside each other."""
    places = positions_of(outcome)
    order = outcome["right"][places].argsort(stable=True)[:NUM_WORST]
    images = sheet.pictures(places[order])
    masks = [painted(outcome[key][order]) for key in ("bad_true", "bad_mask")]
    shown = torch.cat([*([] if images is None else [images]), *masks], 2)
    captions = [(f"{float(outcome['right'][i]):.1%} right", f"no. {i}") for i in places[order].tolist()]
    words = "" if images is None else "The picture, "
    said = Text(f"{words}{'the' if words else 'The'} true mask and the predicted mask, the worst samples first.")
    return Section("Masks, test split", [Gallery(shown, captions, "worst_examples", wide=True), said])


def painted(masks: Tensor) -> Tensor:
    """Masks (N, H, W) as pictures (N, H, W, 3) uint8: the first class dark, the others in the colours of figures."""
    colors = ["#20262d", *SERIES]
    table = torch.tensor([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors], dtype=torch.uint8)
    classes = masks.long()
    return table[torch.where(classes > 0, (classes - 1) % len(SERIES) + 1, 0)]
