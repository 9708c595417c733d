"""Activations by name.

Sources: ``gelu`` Hendrycks and Gimpel 2016, arXiv:1606.08415; ``swish`` Ramachandran et al. 2017, arXiv:1710.05941;
``mish`` Misra 2019, arXiv:1908.08681; ``celu`` Barron 2017, arXiv:1704.07483; ``glu`` Dauphin et al. 2017,
arXiv:1612.08083.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "relu_shifted", "gelu", "swish", "mish", "celu", "glu"]

SHIFT = 0.5
"""About the mean of ReLU's output for standard normal input, which is 0.399."""


class ShiftedReLU(nn.Module):
    """max(x, 0) - 0.5: a ReLU whose output is nearer to zero mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() - SHIFT


def activation(name: Activation, celu_alpha: float, axis: int) -> nn.Module:
    """A new module.

    Args:
        name: of the activation.
        celu_alpha: of ``celu``.
        axis: the axis of the channels, which ``glu`` halves.
    """
    if name == "celu":
        return nn.CELU(celu_alpha)
    if name == "glu":
        return nn.GLU(axis)
    plain = {"relu": nn.ReLU, "relu_shifted": ShiftedReLU, "gelu": nn.GELU, "swish": nn.SiLU, "mish": nn.Mish}
    return plain[name]()


def fan(name: Activation) -> int:
    """How many channels the activation takes for one that it returns.

    >>> fan("relu"), fan("glu")
    (1, 2)
    """
    return 2 if name == "glu" else 1
