"""PyTorch's own initialisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Default:
    """Keep the values that every layer's constructor drew."""

    def __call__(self, model: nn.Module) -> None:
        """Do nothing."""
