"""Squeeze and excitation: gates for the channels of feature maps, added to any model.

Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", 2018, arXiv:1709.01507, equations 2 to 4; at the end of
residual branches as in figure 3 (before the sum).
Deviation: ``start=neutral`` multiplies the gates by 2 and begins with an expanding layer of zeros, so that the model
is unchanged at the start; the source's gates begin around 1/2.
Shapes: a layer's output, (B, C, H, W).
Cost: a mean, two small products and one product with the map per gated layer; about 2 C^2 / reduction parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.functional.residual_branches import branch_ends
from mltricks.functional.squeeze_excite import gates, hidden_units
from mltricks.technique import Own, Params, Technique

NAMES = tuple(f"squeeze_excite/{name}" for name in ("reduce", "reduce_bias", "expand", "expand_bias"))
"""Names of a gate's parameters behind the name of the gated layer."""


@dataclass(frozen=True)
class SqueezeExcite(Technique):
    """y = y sigmoid(W2 ReLU(W1 mean(y) + b1) + b2) channel by channel, for the outputs y of some layers.

    Args:
        reduction: channels divided by hidden units, >= 1.
        start: ``half``, gates around 1/2 as in the source, or ``neutral``, gates of 1.
        layers: patterns of the names of modules; ``None``: the ends of residual branches, or all convolutions of a
            model without these.
    """

    reduction: Count
    start: Literal["half", "neutral"]
    layers: Sequence[str] | None

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        new: Params = {}
        for name, layer, output in outputs_of(model, gated_layers(model, self.layers), batch["x"]):
            for key, value in zip(NAMES, self.weights(output.shape[1]), strict=True):
                value = value.to(output)  # its device and precision
                layer.register_parameter(key, nn.Parameter(value))
                new[f"{name}.{key}" if name else key] = value.clone()
            layer.register_forward_hook(partial(gate, 2.0 if self.start == "neutral" else 1.0))
        return {**params, **new}, {}

    def weights(self, channels: int) -> tuple[Tensor, ...]:
        """A gate's parameters in the order of ``NAMES``, drawn as ``nn.Linear`` draws them."""
        hidden = hidden_units(channels, self.reduction)
        reduce, expand = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        if self.start == "neutral":
            nn.init.zeros_(expand.weight)
            nn.init.zeros_(expand.bias)
        return tuple(t.detach() for t in (reduce.weight, reduce.bias, expand.weight, expand.bias))


def gated_layers(model: nn.Module, patterns: Sequence[str] | None) -> list[tuple[str, nn.Module]]:
    """The layers whose outputs get gates, with their names.

    Raises:
        ValueError: a pattern matches no module, or the model has neither residual branches nor convolutions.
    """
    modules = dict(model.named_modules())
    if patterns is None:
        ends = {id(end) for end in branch_ends(model)}
        found = [(name, m) for name, m in modules.items() if id(m) in ends]
        found = found or [(name, m) for name, m in modules.items() if isinstance(m, nn.Conv2d)]
        if not found:
            raise ValueError(
                f"technique=squeeze_excite gates the channels of feature maps, and {type(model).__name__} has no "
                "convolution. Type model=convnet, or technique.squeeze_excite.layers=NAME."
            )
        return found
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in modules):
            raise ValueError(
                f"technique.squeeze_excite.layers={list(patterns)}: no module is called {pattern}. "
                f"Modules: {', '.join(name for name in modules if name)}."
            )
    return [(name, m) for name, m in modules.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def outputs_of(model: nn.Module, layers: list[tuple[str, nn.Module]], x: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
    """Every layer with its output for the first two samples.

    Raises:
        ValueError: an output is no feature map.
    """
    seen: dict[nn.Module, Any] = {}
    hooks = [layer.register_forward_hook(lambda m, i, output: seen.update({m: output})) for _, layer in layers]
    training = model.training
    with torch.no_grad():
        model.eval()(x[:2])
    model.train(training)
    for hook in hooks:
        hook.remove()
    for name, layer in layers:
        output = seen.get(layer)
        if not isinstance(output, Tensor) or output.ndim != 4:
            what = f"has shape {tuple(output.shape)}" if isinstance(output, Tensor) else "is no tensor"
            raise ValueError(
                f"technique=squeeze_excite gates the channels of feature maps (B, C, H, W), and the output of {name} "
                f"{what}. Type technique.squeeze_excite.layers=NAME with the names of convolutions."
            )
    return [(name, layer, seen[layer]) for name, layer in layers]


def gate(factor: float, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook: the output times its gates."""
    reduce, reduce_bias, expand, expand_bias = (getattr(layer, name) for name in NAMES)
    return output * (factor * gates(output, (reduce, reduce_bias), (expand, expand_bias)).sigmoid())
