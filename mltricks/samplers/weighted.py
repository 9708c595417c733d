"""Draw classes with given probabilities, then a sample of the class uniformly, with replacement.

Source: ``torch.utils.data.WeightedRandomSampler``; a sample's weight is its class's weight over the class's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import NonNegative
from mltricks.data.splits import Split


@dataclass(frozen=True)
class Weighted:
    """Draw each class with probability proportional to its weight, whatever its size.

    An epoch draws as many samples as the training split has.

    Args:
        class_weights: one relative probability per class, >= 0; 0 leaves a class out.

    Raises:
        ValueError: a weight is negative or all are 0; on first use, their number is not the number of classes, or the
            data have no classes.
    """

    class_weights: Sequence[NonNegative]

    def __post_init__(self) -> None:
        wrong = [w for w in self.class_weights if isinstance(w, bool) or not isinstance(w, int | float) or not w >= 0]
        if wrong or not 0 < sum(self.class_weights) < float("inf"):
            raise ValueError(
                f"sampler.class_weights={list(self.class_weights)} must be numbers >= 0, at least one of them above 0; "
                "for instance sampler.class_weights=[1,1,0.5]."
            )

    def order(self, split: Split, seed: int) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        labels = class_labels(split, "weighted")
        num_classes = int(labels.max()) + 1
        if len(self.class_weights) != num_classes:
            raise ValueError(
                f"sampler.class_weights has {len(self.class_weights)} weights for {num_classes} classes. "
                f"Type one for each, for instance sampler.class_weights=[{','.join(['1'] * min(num_classes, 10))}]."
            )
        return draw(labels, torch.tensor(self.class_weights, dtype=torch.float64), seed)


def class_labels(split: Split, sampler: str, instead: str = "sampler=shuffle") -> Tensor:
    """The class of every sample.

    Args:
        split: the samples.
        sampler: what needs the classes, for the message.
        instead: what to type where there are none.

    Raises:
        ValueError: the data have no classes.
    """
    if split.labels is None:
        raise ValueError(f"sampler={sampler} draws by class, and these data have no classes. Type {instead}.")
    return split.labels


def draw(labels: Tensor, weights: Tensor, seed: int) -> Tensor:
    """Draw as many samples as the split has, with replacement.

    Args:
        labels: (N,) int64 classes.
        weights: (K,) float64 relative probabilities of the classes.
        seed: of the draws.
    """
    sizes = torch.bincount(labels, minlength=len(weights))
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial((weights / sizes)[labels], len(labels), replacement=True, generator=generator)
