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
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Decay
from mltricks.functional.drop import drop, set_rate
from mltricks.functional.feature_maps import Seen
from mltricks.functional.layers import linear_layers, matching_layers, weighted_layers
from mltricks.state import leaves
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique


@dataclass(frozen=True)
class Dropout(Technique):
    """x = x mask / (1 - p) before a layer, with mask ~ Bernoulli(1 - p) for every element, while training.

    Args:
        p: probability of zeroing an element, in [0, 1).
        layers: patterns of the names of linear layers and convolutions; ``None`` for the last linear layer.
    """

    p: Decay
    layers: Sequence[str] | None

    name: ClassVar[str] = "dropout"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        for layer in chosen_layers(model, batch["x"], self.layers, self.name):
            layer.register_buffer(self.buffer, torch.full((), float(self.p), device=next(leaves(batch)).device))
            layer.register_forward_pre_hook(partial(drop_inputs, buffer=self.buffer))
        return params, {}

    @property
    def buffer(self) -> str:
        """Name of a layer's buffer for the rate: a schedule can set it, and a copy of the model keeps it."""
        return f"{self.name}_p"

    def rate(self, ctx: Ctx) -> float | Tensor:
        """The probability of zeroing an element at this step."""
        return self.p

    def loss(self, inner: LossFn) -> LossFn:
        def dropped(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            set_rate(ctx, self.buffer, self.rate(ctx))
            return inner(params, batch, ctx)

        return dropped


def chosen_layers(model: nn.Module, x: Any, patterns: Sequence[str] | None, technique: str) -> list[nn.Module]:
    """The layers whose inputs get dropout.

    Layers that the model does not call are none of them, such as the output layer of ``nn.MultiheadAttention``, whose
    weight a function reads.

    Args:
        model: any model.
        x: a batch of inputs.
        patterns: of names; ``None`` for the last linear layer.
        technique: its name, for messages.

    Raises:
        ValueError: the model has no linear layer, or a pattern matches no layer.
    """
    called = {id(module) for _, module, _, _ in Seen(model, x).calls}
    layers = {name: m for name, m in weighted_layers(model).items() if id(m) in called}
    if patterns is None:
        linear = [m for m in linear_layers(model).values() if id(m) in called]
        if not linear:
            raise ValueError(
                f"technique={technique} stands before the last linear layer, and the model has none. "
                f"Type technique.{technique}.layers=NAME; layers: {', '.join(layers) or 'none'}."
            )
        return linear[-1:]
    chosen = matching_layers(layers, patterns, f"technique.{technique}.layers", "Linear layers and convolutions")
    return list(chosen.values())


def drop_inputs(layer: nn.Module, inputs: tuple[Any, ...], buffer: str) -> tuple[Any, ...] | None:
    """Forward pre-hook: apply dropout to the layer's input in training mode, at the rate in a buffer."""
    if not layer.training:
        return None
    return drop(inputs[0], layer.get_buffer(buffer)), *inputs[1:]
