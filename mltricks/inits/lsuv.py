"""Layer-sequential unit-variance (LSUV) initialisation.

Source: Mishkin and Matas, "All you need is a good init", 2016, arXiv:1511.06422, algorithm 1: orthonormal weights, then
layer by layer in the order of the forward pass divide by the standard deviation of the layer's output on a batch.
Deviation: as in the authors' code, the tolerance is on the standard deviation. Layers that share their weight with
another module keep the orthonormal weight, since one scale cannot suit both.
Cost: one forward pass in evaluation mode.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Positive
from mltricks.inits.base import CONVOLUTIONS, Initializer


@dataclass(frozen=True)
class Lsuv(Initializer):
    """W = W / std(layer(x)) until |std(layer(x)) - 1| <= tolerance, for linear and convolutional layers.

    Args:
        tolerance: largest distance of a standard deviation from 1, > 0.
        max_tries: corrections of one layer, >= 1; one is enough where biases are zero.
    """

    tolerance: Positive
    max_tries: Count

    def fill(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight)

    def __call__(self, model: nn.Module, batch: Batch) -> str:  # type: ignore[override]
        """Initialise the module in place; return a message with the number of layers.

        Raises:
            ValueError: a layer's output does not vary over the batch, or is not finite.
        """
        super().__call__(model)
        kinds = (nn.Linear, *CONVOLUTIONS)
        layers: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, kinds)}
        shared = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
        done: set[nn.Module] = set()

        def correct(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if layer in done or shared[id(layer.weight)] > 1:
                return None
            output = self.scaled(layers[layer], layer, inputs, output)
            done.add(layer)
            return output

        hooks = [layer.register_forward_hook(correct) for layer in layers]
        training = model.training
        try:
            with torch.no_grad():
                model.eval()(batch["x"])
        finally:
            model.train(training)
            for hook in hooks:
                hook.remove()
        skipped = [name for layer, name in layers.items() if layer not in done]
        rest = f"; orthonormal only: {', '.join(skipped)}" if skipped else ""
        return f"init: lsuv scaled {len(done)} layers{rest}"

    def scaled(self, name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Scale one layer; return its new output."""
        for _ in range(self.max_tries):
            std = float(output.std())
            if not 0 < std < float("inf"):
                raise ValueError(
                    f"init=lsuv divides by the standard deviation of every layer's output, and that of {name} is "
                    f"{std:g} on the first batch. Type init=orthogonal, or another activation in front of it."
                )
            if abs(std - 1) <= self.tolerance:
                break
            layer.get_parameter("weight").div_(std)
            output = layer.forward(*inputs)
        return output
