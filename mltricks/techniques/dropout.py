"""Dropout: zero each input element of a layer with a given probability.

Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks from
Overfitting", JMLR 2014, in the inverted form of ``torch.nn.functional.dropout``.
Deviation: by default only before the last linear layer, as in image models; ``layers`` names others.
Shapes: the layer's input shape.
Cost: one random tensor and one product per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Decay
from mltricks.state import leaves
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

RATE = "dropout_p"
"""Name of the layer's buffer for the rate: a schedule can set it, and a copy of the model keeps it."""


@dataclass(frozen=True)
class Dropout(Technique):
    """x = x mask / (1 - p) before a layer, with mask ~ Bernoulli(1 - p) for every element, while training.

    Args:
        p: probability of zeroing an element, in [0, 1).
        layers: patterns of the names of linear layers and convolutions; ``None`` for the last linear layer.
    """

    p: Decay
    layers: Sequence[str] | None

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        for layer in chosen_layers(model, self.layers):
            layer.register_buffer(RATE, torch.full((), float(self.p), device=next(leaves(batch)).device))
            layer.register_forward_pre_hook(drop_inputs)
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        def dropped(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            rates = [name for name in ctx.buffers if name.rpartition(".")[2] == RATE]
            ctx.buffers.update({name: torch.ones_like(ctx.buffers[name]) * self.p for name in rates})
            return inner(params, batch, ctx)

        return dropped


def chosen_layers(model: nn.Module, patterns: Sequence[str] | None) -> list[nn.Module]:
    """The layers whose inputs get dropout.

    Raises:
        ValueError: the model has no linear layer, or a pattern matches no layer.
    """
    layers: dict[str, nn.Module] = {
        name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)
    }
    known = ", ".join(layers) or "none"
    if patterns is None:
        linear: list[nn.Module] = [m for m in layers.values() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(
                "technique=dropout stands before the last linear layer, and the model has none. "
                f"Type technique.dropout.layers=NAME; layers: {known}."
            )
        return linear[-1:]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(
                f"technique.dropout.layers={list(patterns)}: no layer is called {pattern}. "
                f"Linear layers and convolutions: {known}."
            )
    return [m for name, m in layers.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def drop_inputs(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook: apply dropout to the layer's input in training mode."""
    if not layer.training:
        return None
    return drop(inputs[0], layer.get_buffer(RATE)), *inputs[1:]


def drop(x: Tensor, p: Tensor) -> Tensor:
    """Zero elements of ``x`` with probability ``p`` and scale the rest by 1 / (1 - p), so that the mean is kept.

    >>> drop(torch.ones(3), torch.tensor(0.0))
    tensor([1., 1., 1.])
    """
    keep = 1 - p
    return x * (torch.rand(x.shape, device=x.device) < keep) / keep
