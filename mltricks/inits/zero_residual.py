"""Zero residual: the last norm of every residual branch starts with scale 0, so that a block is its shortcut.

Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, section 5.1; torchvision's
``zero_init_residual`` and timm's ``zero_init_last`` do the same.
Deviation: a branch that ends in a linear layer or a convolution (a transformer's) has the weight and bias of that zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.functional.residual_branches import ends_in
from mltricks.inits.gain import ACTIVATIONS

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class ZeroResidual:
    """Branch(x) = 0 for every residual block."""

    def __call__(self, model: nn.Module) -> str:
        """Change the module in place; return a message with the number of branches.

        Raises:
            ValueError: the model has no residual branch that it knows, or one whose end could not learn from zero.
        """
        count = 0
        for block in model.modules():
            ends = list(ends_in(block))
            if ends and callable(zero := getattr(block, "zero_init_last", None)):  # a block of timm
                zero()
            else:
                for end in ends:
                    silence(type(model).__name__, end)
            count += len(ends)
        if not count:
            raise ValueError(
                f"init=zero_residual sets the ends of residual branches, and {type(model).__name__} has none that it "
                "knows. Type model=resnet9 model.activation=celu, or model.residual=true for a model with this switch; "
                "in a model of your own, use mltricks.models.residual.Residual."
            )
        return f"init: zero_residual silenced {count} branches"


def silence(model: str, branch: nn.Module) -> None:
    """Set the last norm, or the last layer, of a branch to zero."""
    gated = [m for m in branch.modules() if type(m).__name__.startswith(("Squeeze", "SE"))]
    gates = {id(part) for gate in gated for part in gate.modules()}
    parts = [m for m in branch.modules() if id(m) not in gates]
    places = [i for i, m in enumerate(parts) if isinstance(m, NORMS + LAYERS)]
    if not places:
        raise ValueError(
            f"init=zero_residual finds no norm and no layer in a residual branch of {model}: its end is a "
            f"{type(branch).__name__}. Type init=default."
        )
    for after in parts[places[-1] + 1 :]:
        if isinstance(after, ACTIVATIONS) and not learns_from_zero(after):
            raise ValueError(
                f"init=zero_residual: a residual branch of {model} ends in {type(after).__name__}, which is flat or "
                "not zero at zero, so the branch could not learn or not be silent. Type model.activation=celu, gelu, "
                "swish or mish, or a model.order with the norm last."
            )
    last = parts[places[-1]]
    for parameter in (last.weight, *([last.bias] if isinstance(last, LAYERS) and last.bias is not None else [])):
        zero(last, parameter)


def zero(last: nn.Module, parameter: Any) -> None:
    """Set a weight, scale or bias to zero.

    Raises:
        ValueError: there is none, or it is frozen and would stay zero.
    """
    kind = type(last).__name__
    if not isinstance(parameter, nn.Parameter):
        raise ValueError(f"init=zero_residual: a {kind} at the end of a residual branch has no scale of its own.")
    if not parameter.requires_grad:
        raise ValueError(
            f"init=zero_residual: the scale of a {kind} at the end of a residual branch is frozen, so the branch would "
            "stay silent. Type model.frozen_scale=false."
        )
    nn.init.zeros_(parameter)


def learns_from_zero(activation: nn.Module) -> bool:
    """Whether an activation is zero at zero, and has a slope there."""
    z: Tensor = torch.zeros(2, requires_grad=True)
    y = activation(z.clone())
    (slope,) = torch.autograd.grad(y.sum(), z)
    return not y.any() and bool(slope.any())
