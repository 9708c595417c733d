"""Pairs: two inputs per sample, each of any kind. ``x`` is a dict of ``left`` and ``right``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.inputs.base import Dtypes, Input, Raw


@dataclass(frozen=True)
class Pair(Input):
    """Two inputs per sample.

    Args:
        left, right: their input kinds.
    """

    left: Input
    right: Input

    suits: ClassVar[str] = "two_towers"

    @property
    def parts(self) -> dict[str, Input]:
        return {"left": self.left, "right": self.right}

    @property
    def shape(self) -> dict[str, Any]:  # type: ignore[override]
        return {name: part.shape for name, part in self.parts.items()}

    def __str__(self) -> str:
        return f"pair of {self.left} and {self.right}"

    def normalize(self, x: Raw) -> Raw:
        return {name: part.normalize(x[name]) for name, part in self.parts.items()}

    def denormalize(self, x: Raw) -> Raw:
        return {name: part.denormalize(x[name]) for name, part in self.parts.items()}

    def zeros(self, size: int) -> Raw:
        return {name: part.zeros(size) for name, part in self.parts.items()}

    def noise(self, size: int, device: torch.device) -> Raw:
        return {name: part.noise(size, device) for name, part in self.parts.items()}

    def features(self, x: Raw) -> Tensor | None:
        left, right = (part.features(x[name]) for name, part in self.parts.items())
        return None if left is None or right is None else torch.cat([left, right], 1)

    def spread(self, x: Raw) -> None:
        return None

    def prepare(self, x: Any, dtype: Dtypes) -> Raw:
        if not isinstance(x, dict) or x.keys() != self.parts.keys():
            raise ValueError("inputs are pairs: give a dict of left and right, with as many samples in each.")
        found = {name: part.prepare(x[name], dtype[name]) for name, part in self.parts.items()}
        if len(found["left"]) != len(found["right"]):
            raise ValueError(f"{len(found['left'])} left inputs and {len(found['right'])} right ones are no pairs.")
        return found

    def read(self, path: Path, size: int, dtype: Dtypes) -> Iterator[tuple[list[Any], Raw]]:
        raise ValueError(f"input={path}: pairs are not read from files. Use mltricks.load in Python.")

    def pictures(self, x: Raw) -> Tensor | None:
        """Both pictures side by side."""
        left, right = (part.pictures(x[name]) for name, part in self.parts.items())
        if left is None or right is None or left.shape[1] != right.shape[1]:
            return None
        return torch.cat([left, right], 2)
