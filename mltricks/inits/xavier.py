"""Xavier initialisation: the variance of weights is the inverse of the mean of fan-in and fan-out.

Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010,
equations 12 and 16; drawn by ``torch.nn.init``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mltricks.config.values import Positive
from mltricks.inits.base import Initializer


@dataclass(frozen=True)
class Xavier(Initializer):
    """Var(w) = 2 gain^2 / (fan_in + fan_out).

    Args:
        distribution: ``uniform`` or ``normal``.
        gain: factor on every weight, > 0; ``auto`` for the gain of the model's activation (``inits.gain``).
    """

    distribution: Literal["uniform", "normal"]
    gain: Positive | Literal["auto"]

    def fill(self, weight: Tensor) -> None:
        draw = nn.init.xavier_uniform_ if self.distribution == "uniform" else nn.init.xavier_normal_
        draw(weight, 1.0 if self.gain == "auto" else self.gain)
