"""The base class of initialisations, which redraw the weights of linear and convolutional layers.

An initialisation is called with the module. If its call names a second argument ``batch``, it also receives the first
training batch, normalised and on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mltricks.config.values import check_fields
from mltricks.inits.gain import model_gain

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Initializer:
    """The base class: ``fill`` draws every linear and convolutional weight.

    Embeddings, norms, recurrent layers and the packed input weights of attention keep their constructors' values.

    Args:
        biases: the biases of these layers: ``zero``, or ``keep`` the constructors' values.
    """

    biases: Literal["zero", "keep"]

    def __post_init__(self) -> None:
        check_fields(self, "init.")

    def __call__(self, model: nn.Module) -> None:
        """Initialise the module in place; the global generators are already seeded.

        Raises:
            ValueError: the model has no such layer, or a layer's shape is not known yet.
        """
        layers = [(name, m) for name, m in model.named_modules() if isinstance(m, (nn.Linear, *CONVOLUTIONS))]
        if not layers:
            raise ValueError(
                "init draws the weights of linear and convolutional layers, and this model has none. Type init=default."
            )
        key = self.follows_activation
        factor = 1.0 if key is None else model_gain(model, f"init.{key}")
        for name, layer in layers:
            self._initialize(name, layer, factor)

    @property
    def follows_activation(self) -> str | None:
        """The field whose value is ``auto``: every weight is then multiplied by the gain of the model's activation."""
        return next((name for name in ("gain", "nonlinearity") if getattr(self, name, None) == "auto"), None)

    def _initialize(self, name: str, layer: nn.Module, factor: float) -> None:
        weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"init comes before the first batch, and the layer {name} is lazy: its shape is not known. "
                "Type init=default, or give the layer its size."
            )
        if weight is None:  # a parametrisation computes this weight, so writing to it would be lost
            raise ValueError(
                f"init cannot draw the weight of the layer {name}, which is computed from others. Type init=default."
            )
        self.fill(weight)
        if factor != 1:
            with torch.no_grad():
                weight.mul_(factor)
        if bias is not None and self.biases == "zero":
            nn.init.zeros_(bias)

    def fill(self, weight: Tensor) -> None:
        """Draw one weight, in place; with gain 1 where the gain is ``auto``."""
        raise AssertionError(f"{type(self).__name__} defines no fill")
