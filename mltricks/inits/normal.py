"""Normal initialisation: every weight has the same standard deviation, whatever the layer's size.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section
5.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mltricks.config.values import Positive
from mltricks.inits.base import Initializer


@dataclass(frozen=True)
class Normal(Initializer):
    """w ~ N(0, std^2).

    Args:
        std: standard deviation, > 0.
    """

    std: Positive

    def fill(self, weight: Tensor) -> None:
        nn.init.normal_(weight, std=self.std)
