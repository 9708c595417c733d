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
