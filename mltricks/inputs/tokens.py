"""Sequences of tokens. Legend: N samples, L length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mltricks.inputs.base import Input


@dataclass(frozen=True)
class Tokens(Input):
    """Indices into a vocabulary.

    Args:
        shape: (L,).
        vocabulary: number of different tokens; each token is 0 to ``vocabulary - 1``.
    """

    shape: tuple[int, ...]
    vocabulary: int

    suits: ClassVar[str] = "transformer"

    def zeros(self, size: int) -> Tensor:
        return torch.zeros(size, *self.shape, dtype=torch.int64)

    def noise(self, size: int, device: torch.device) -> Tensor:
        return torch.randint(self.vocabulary, (size, *self.shape), device=device)

    def features(self, x: Tensor) -> None:
        return None

    def spread(self, x: Tensor) -> None:
        return None

    def texts(self, x: Tensor, names: Sequence[str]) -> list[str] | None:
        return ["".join(names[i] for i in row) for row in x.tolist()] if len(names) == self.vocabulary else None

    def checked(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        x = super().checked(x, dtype)
        if x.min() < 0 or x.max() >= self.vocabulary:
            raise ValueError(f"inputs go from {x.min()} to {x.max()}; tokens are 0 to {self.vocabulary - 1}.")
        return x
