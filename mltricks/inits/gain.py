"""The gain that suits a model's activation: layers before it keep the size of their inputs.

Source: He et al. 2015, arXiv:1502.01852, equations 7 to 10, for any activation f: gain^2 = 1 / E[f(z)^2] with standard
normal z, which is 2 for ReLU.
Deviation: ``torch.nn.init.calculate_gain`` has 5/3 for tanh (here 1.59) and 3/4 for SELU (here 1), and knows neither
GELU nor the newer ones.
"""

from __future__ import annotations

import torch
from torch import nn

from mltricks.models.activations import ShiftedReLU

GATED = (nn.GLU,)
ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, ShiftedReLU),
    *(nn.Tanh, nn.Hardtanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.Softsign, *GATED),
)
"""The modules that are taken for activations."""
WIDEST, POINTS = 12.0, 200_001
"""The integral over the normal density goes from -12 to 12, in float64."""


def gain_of(activation: nn.Module) -> float:
    """1 / sqrt(E[f(z)^2]) for standard normal z, by the trapezoidal rule.

    >>> round(gain_of(nn.ReLU()), 4), round(gain_of(nn.GELU()), 4), round(gain_of(nn.Identity()), 4)
    (1.4142, 1.5335, 1.0)
    """
    z = torch.linspace(-WIDEST, WIDEST, POINTS, dtype=torch.float64)
    gate = isinstance(activation, GATED)  # the input itself, times the sigmoid of an independent one: E[z^2] = 1
    value = z.sigmoid() if gate else activation(z.clone())
    density = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    return float(torch.trapezoid(value.square() * density, z)) ** -0.5


def model_gain(model: nn.Module, key: str) -> float:
    """The gain of the only kind of activation in a model.

    Args:
        model: any module.
        key: the setting that asks, for messages.

    Raises:
        ValueError: there is none, or there are several.
    """
    found = {str(m): gain_of(m) for m in model.modules() if isinstance(m, ACTIVATIONS)}
    if len({round(gain, 6) for gain in found.values()}) == 1:
        return next(iter(found.values()))
    number = key.endswith("gain")
    if not found:
        example = 1.4142 if number else "relu"
        raise ValueError(
            f"{key}=auto follows the model's activation, and {type(model).__name__} has no module for one (it may call "
            f"a function). Type what it is, for instance {key}={example} for ReLU."
        )
    gains = ", ".join(f"{name} {gain:.4g}" for name, gain in found.items())
    fix = f"{key}={max(found.values()):.4g}" if number else f"{key}=relu"
    raise ValueError(
        f"{key}=auto follows the model's activation, and {type(model).__name__} has several, with gains of their own: "
        f"{gains}. Type one, for instance {fix}."
    )
