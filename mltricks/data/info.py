"""The description of a data set that the rest of the program uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from mltricks.inputs.base import Input, Raw


@dataclass(frozen=True)
class Info:
    """Description of a data set.

    Attributes:
        input: the input kind of ``x``.
        target: the kind of ``y``, as in an objective's ``targets``: ``classes``, ``labels``, ``tokens``, ...
        num_outputs: output width that a model needs: classes, vocabulary or target columns.
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
        """The names of the classes, or their numbers if they have none."""
        return self.classes or tuple(str(k) for k in range(self.num_outputs))

    def to(self, device: torch.device) -> Info:
        return replace(self, input=self.input.to(device))

    def reshaped(self, shape: tuple[int, ...]) -> Info:
        """The same for samples of another shape, which a technique may declare."""
        return replace(self, input=self.input.reshaped(shape))

    def normalize(self, x: Raw) -> Raw:
        """Convert raw inputs to the model's inputs."""
        return self.input.normalize(x)
