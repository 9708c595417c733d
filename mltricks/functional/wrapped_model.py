"""Stand-ins for the model of a context: they record its calls, or add rows to a forward pass.

``replace(ctx, model=Recorded(ctx.model))`` gives the remaining techniques a model that behaves like the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mltricks.functional_model import FunctionalModel


class WrappedModel(FunctionalModel):
    """The base: has every attribute of ``model``, which may be wrapped itself, and passes every call on to it."""

    def __init__(self, model: FunctionalModel):
        self.__dict__.update(model.__dict__)
        self.model = model

    def __call__(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, train: bool, capture: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        return self.model(params, buffers, x, train, capture)


class Recorded(WrappedModel):
    """Keeps the input and the output of the first call.

    Attributes:
        first: the pair; ``None`` before the first call.
    """

    def __init__(self, model: FunctionalModel):
        super().__init__(model)
        self.first: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, train: bool, capture: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        result = self.model(params, buffers, x, train, capture)
        if self.first is None:
            self.first = (x, result[0])
        return result


class WithExtraRows(WrappedModel):
    """Adds the rows ``extra`` to the first call, in one forward pass; the caller sees only its own rows.

    Args:
        model: the model.
        extra: rows of the same shape and dtype as those of ``x``.

    Attributes:
        extra_output: the model's output for them; ``None`` before the first call.
    """

    def __init__(self, model: FunctionalModel, extra: Tensor):
        super().__init__(model)
        self.extra = extra
        self.extra_output: Tensor | None = None

    def __call__(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, train: bool, capture: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        if self.extra_output is not None:
            return self.model(params, buffers, x, train, capture)
        rows = len(x)
        output, buffers, captured = self.model(params, buffers, torch.cat([x, self.extra]), train, capture)
        self.extra_output = output[rows:]
        captured = {name: (given[:rows], made[:rows]) for name, (given, made) in captured.items()}
        return output[:rows], buffers, captured
