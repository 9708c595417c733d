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
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Decay
from mltricks.functional.drop import drop
from mltricks.functional.layers import linear_layers, matching_layers, weighted_layers
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
    layers = weighted_layers(model)
    if patterns is None:
        linear = list(linear_layers(model).values())
        if not linear:
            raise ValueError(
                "technique=dropout stands before the last linear layer, and the model has none. "
                f"Type technique.dropout.layers=NAME; layers: {', '.join(layers) or 'none'}."
            )
        return linear[-1:]
    chosen = matching_layers(layers, patterns, "technique.dropout.layers", "Linear layers and convolutions")
    return list(chosen.values())


def drop_inputs(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook: apply dropout to the layer's input in training mode."""
    if not layer.training:
        return None
    return drop(inputs[0], layer.get_buffer(RATE)), *inputs[1:]
