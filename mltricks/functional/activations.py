"""Penalties on activations of named modules, added to the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional.feature_maps import first_tensor
from mltricks.functional.wrapped_model import WrappedModel
from mltricks.functional_model import FunctionalModel
from mltricks.technique import Aux, Ctx, LossFn, Params

Chosen = dict[str, tuple[int, int]]
"""By the name of a module: 0 for its input or 1 for its output, and the axis of time."""


class Captured(WrappedModel):
    """Keeps the model's input, and inputs and outputs of modules, at the first call.

    Args:
        model: the model.
        names: of modules.

    Attributes:
        x: the model's input; ``None`` before the first call.
        first: (input, output) by name; empty before the first call.
    """

    def __init__(self, model: FunctionalModel, names: Sequence[str]):
        super().__init__(model)
        self.names = tuple(names)
        self.x: Any = None
        self.first: dict[str, tuple[Any, Any]] = {}

    def __call__(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, train: bool, capture: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        both = tuple(dict.fromkeys((*capture, *self.names)))
        output, buffers, captured = self.model(params, buffers, x, train, both)
        self.x = self.x if self.first else x
        self.first = self.first or {name: captured[name] for name in self.names}
        return output, buffers, {name: captured[name] for name in capture}


def with_penalty(
    inner: LossFn,
    chosen: Callable[[nn.Module], Chosen],
    measure: Callable[[Tensor, int], Tensor],
    strength: float | Tensor,
) -> LossFn:
    """Add to a loss the mean measure of activations times a strength.

    The metric ``loss`` stays the objective's; the metric ``penalty`` is the sum of all penalties.

    Args:
        inner: the loss.
        chosen: what is measured of a model.
        measure: of activations in single precision and the number in ``Chosen``, 0-d.
        strength: >= 0.
    """

    def loss(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        wanted = chosen(ctx.model.module)
        model = Captured(ctx.model, list(wanted))
        value, aux = inner(params, batch, replace(ctx, model=model))
        assert model.first, "the rest of the techniques runs the model"
        sizes = [measure(first_tensor(model.first[name][side]).float(), axis) for name, (side, axis) in wanted.items()]
        penalty = strength * torch.stack(sizes).mean()
        metrics = {**aux["metrics"], "penalty": aux["metrics"].get("penalty", 0.0) + penalty}
        return value + penalty, {**aux, "metrics": metrics}

    return loss
