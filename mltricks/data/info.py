"""What the rest of the program needs to know about a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from mltricks.inputs.base import Input, Raw


@dataclass(frozen=True)
class Info:
    """What a data set is.

    Attributes:
        input: what one sample of ``x`` is.
        target: what ``y`` is, as an objective names it in its ``targets``: ``classes``, ``tokens``, ``values``, ...
        num_outputs: width of the output a model needs: classes, vocabulary or target columns.
        classes: names of the classes, or the characters of the vocabulary; empty for values.
    """

    input: Input
    target: str
    num_outputs: int
    classes: tuple[str, ...] = ()

    @property
    def in_shape(self) -> Any:
        """The shape of one ``x``, or a dict of shapes."""
        return self.input.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers."""
        return self.classes or tuple(str(k) for k in range(self.num_outputs))

    def to(self, device: torch.device) -> Info:
        return replace(self, input=self.input.to(device))

    def reshaped(self, shape: tuple[int, ...]) -> Info:
        """The same for samples of another shape, as a technique may declare one."""
        return replace(self, input=self.input.reshaped(shape))

    def normalize(self, x: Raw) -> Raw:
        """Raw inputs as the model sees them."""
        return self.input.normalize(x)
