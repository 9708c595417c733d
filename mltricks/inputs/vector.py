"""Vectors of numbers. Legend: N samples, D features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.inputs.base import Input


@dataclass(frozen=True)
class Vector(Input):
    """Feature vectors, standardised column by column.

    Args:
        shape: (D,).
        mean, std: training statistics in raw units, (D,); ``None``: the vectors are used as they are.
    """

    shape: tuple[int, ...]
    mean: Tensor | None = None
    std: Tensor | None = None

    def normalize(self, x: Tensor) -> Tensor:
        """Standardise vectors (N, D) of any dtype to zero mean and unit variance, float32."""
        if self.mean is None or self.std is None:
            return x
        return (x.float() - self.mean) * (1.0 / self.std)
