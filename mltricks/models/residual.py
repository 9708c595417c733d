"""A residual connection: a shortcut plus a branch that techniques can find by its name.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, arXiv:1512.03385, equation 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Residual(nn.Module):
    """shortcut(x) + branch(x).

    Args:
        branch: the module whose output is added; it has the shape of the shortcut's output.
        shortcut: the identity unless given.
    """

    residual_branches: ClassVar[tuple[str, ...]] = ("branch",)
    """Names of the submodules whose output is added to a shortcut; stochastic depth reads it of any module."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)
