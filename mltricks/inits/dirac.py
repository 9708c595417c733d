"""Dirac initialisation: the first output channels of a convolution copy its input channels.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv:2404.00498, section 3.3.
Deviation: in every model it is applied to the convolutions with kernels of odd side above 1, one group, and at least as
many outputs as inputs. Biases and all other weights keep their constructors' values.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Dirac:
    """w[o, i] = 1 in the centre of the kernel where o = i and o < C_in, 0 elsewhere in these rows."""

    def __call__(self, model: nn.Module) -> str:
        """Change the module in place; return a message with the number of convolutions.

        Raises:
            ValueError: the model has no such convolution.
        """
        found = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) and suits(m)]
        if not found:
            raise ValueError(
                f"init=dirac sets convolutions with kernels of odd side above 1 and no fewer outputs than inputs, and "
                f"{type(model).__name__} has none. Type init=default, or model=resnet9."
            )
        for conv in found:
            nn.init.dirac_(conv.weight.data[: conv.weight.shape[1]])
        return f"init: dirac set {len(found)} convolutions"


def suits(conv: nn.modules.conv._ConvNd) -> bool:
    """Whether a convolution can pass its input on, with channels to spare for its own features."""
    odd = all(side % 2 and side > 1 for side in conv.kernel_size)
    return odd and conv.groups == 1 and conv.weight.shape[0] >= conv.weight.shape[1]
