"""PyTorch's own initialisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Default:
    """Leave every layer as its constructor made it."""

    def __call__(self, model: nn.Module) -> None:
        """Initialise the module in place; the global random state has been set from the run's seed."""
