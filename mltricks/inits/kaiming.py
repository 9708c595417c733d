"""Kaiming initialisation: weights that keep the variance of activations (or gradients) through rectifiers.

Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852, equations 10 and 14; drawn by
``torch.nn.init``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mltricks.config.values import NonNegative
from mltricks.inits.base import Initializer


@dataclass(frozen=True)
class Kaiming(Initializer):
    """Var(w) = gain^2 / fan, with gain^2 = 2 for relu, 2 / (1 + negative_slope^2) for leaky_relu, 1 for linear.

    Args:
        distribution: ``uniform`` or ``normal``.
        mode: ``fan_in`` keeps the variance of activations, ``fan_out`` that of gradients.
        nonlinearity: the activation after the layers; its gain is ``torch.nn.init.calculate_gain``'s. ``auto``: that of
            the model, with the gain of ``inits.gain``.
        negative_slope: slope of leaky_relu below zero, >= 0; 0 for every other nonlinearity.

    Raises:
        ValueError: a ``negative_slope`` without leaky_relu.
    """

    distribution: Literal["uniform", "normal"]
    mode: Literal["fan_in", "fan_out"]
    nonlinearity: Literal["relu", "leaky_relu", "linear", "tanh", "sigmoid", "selu", "auto"]
    negative_slope: NonNegative

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negative_slope and self.nonlinearity != "leaky_relu":
            raise ValueError(
                f"init.negative_slope={self.negative_slope:g} has no effect with nonlinearity={self.nonlinearity}. "
                "Type init.nonlinearity=leaky_relu."
            )

    def fill(self, weight: Tensor) -> None:
        draw = nn.init.kaiming_uniform_ if self.distribution == "uniform" else nn.init.kaiming_normal_
        kind = "linear" if self.nonlinearity == "auto" else self.nonlinearity
        draw(weight, self.negative_slope, self.mode, kind)
