"""Zero random elements of a tensor, or of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.technique import Aux, Ctx, LossFn, Params


def drop(x: Tensor, p: float | Tensor) -> Tensor:
    """Zero elements of ``x`` with probability ``p`` and scale the rest by 1 / (1 - p), so that the mean is kept.

    >>> drop(torch.ones(3), torch.tensor(0.0))
    tensor([1., 1., 1.])
    """
    keep = 1 - p
    return x * (torch.rand(x.shape, device=x.device) < keep) / keep


def set_rate(ctx: Ctx, buffer: str, rate: float | Tensor) -> None:
    """Set all buffers of this name in the model, which hooks of layers read, to a rate."""
    names = [name for name in ctx.buffers if name.rpartition(".")[2] == buffer]
    ctx.buffers.update({name: torch.ones_like(ctx.buffers[name]) * rate for name in names})


def with_dropped(inner: LossFn, names: Callable[[nn.Module], Sequence[str]], p: float | Tensor) -> LossFn:
    """A loss whose model sees some parameters with random elements set to zero; one mask for the whole batch.

    Args:
        inner: the loss.
        names: gives the names of these parameters for the model.
        p: probability that an element is set to zero, in [0, 1).
    """

    def loss(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        dropped = {name: drop(params[name], p) for name in names(ctx.model.module)}
        return inner({**params, **dropped}, batch, ctx)

    return loss


def check_droppable(names: Sequence[str], params: Params, technique: str) -> None:
    """Refuse weights that are no parameters of their own.

    Args:
        names: of the weights.
        params: of the model.
        technique: that drops them, for the message.

    Raises:
        ValueError: one is tied to another or computed from others.
    """
    for name in names:
        if name not in params:
            raise ValueError(
                f"technique={technique} drops {name}, which is tied to another parameter or computed from others. "
                f"Name layers without it in technique.{technique}.layers."
            )
