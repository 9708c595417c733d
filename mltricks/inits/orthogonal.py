"""Orthogonal initialisation: weights with orthonormal rows or columns, whichever are fewer.

Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
networks", 2014, arXiv:1312.6120; drawn by ``torch.nn.init``.
Shapes: a convolution counts as the matrix (out, in x height x width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mltricks.config.values import Positive
from mltricks.inits.base import Initializer


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """W W^T = gain^2 I, or W^T W = gain^2 I for a weight with more rows than columns.

    Args:
        gain: factor on every weight, > 0; ``auto`` for the gain of the model's activation (``inits.gain``).
    """

    gain: Positive | Literal["auto"]

    def fill(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, 1.0 if self.gain == "auto" else self.gain)
