"""What methods that learn without labels share: the features, the probe that watches them, and the watch for collapse.

The features of a sample are the input of the model's last linear layer, one vector of D numbers.
Legend: B samples, D features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.functional.last_linear import last_linear
from mltricks.functional_model import FunctionalModel

if TYPE_CHECKING:
    from mltricks.batch import Batch
    from mltricks.technique import Aux, Ctx, LossFn, Params

SPREAD = "feature_std"
"""The metric that shows a collapse: the console has a column of it."""
COLLAPSED = 0.05
"""A run that ends with a smaller spread is warned about."""


def features_of(technique: str, params: Params, x: Tensor, ctx: Ctx) -> Tensor:
    """The features of a batch, (B, D) float32, in the mode of the context."""
    head = last_linear(ctx.model.module, technique)
    _, captured = ctx.apply(params, x, capture=(head,))
    features: Tensor = captured[head][0].float()
    return features


def named(technique: str, layers: nn.Module) -> Params:
    """The parameters of layers that a technique adds, as ``TECHNIQUE/NAME``."""
    return {f"{technique}/{name}": p.detach().clone() for name, p in layers.named_parameters()}


def feature_width(technique: str, model: nn.Module, params: Params, x: Tensor) -> int:
    """D, for a model that ends in a linear layer over one vector a sample.

    Args:
        technique: its name, for the message.
        model, params: as ``setup`` receives them.
        x: a few inputs.

    Raises:
        ValueError: the model ends in another way.
    """
    head = last_linear(model, technique)
    function = FunctionalModel(model)
    buffers = {name: places[0][0][places[0][1]] for name, places in function.buffers}
    with torch.no_grad():
        output, _, captured = function(params, buffers, x, False, (head,))
    if head not in captured or captured[head][0].ndim != 2 or not torch.equal(captured[head][1], output):
        raise ValueError(
            f"technique={technique} needs a model that ends in a linear layer over one vector a sample; the last "
            f"linear layer of {type(model).__name__} is {head}, and it does not give the model's output. "
            "Type model=resnet9."
        )
    return captured[head][0].shape[1]


def with_probe(
    technique: str,
    inner: LossFn,
    params: Params,
    batch: Batch,
    ctx: Ctx,
    loss: Tensor,
    metrics: dict[str, Tensor],
    probe: bool,
) -> tuple[Tensor, Aux]:
    """Add a linear probe to a loss without labels: the objective trains the last linear layer, and nothing else.

    The probe sees detached features of the inputs as they are, in evaluation mode.

    Args:
        technique: its name.
        inner, params, batch, ctx: of the technique's loss.
        loss: without labels, 0-d.
        metrics: of the technique.
        probe: ``False`` leaves the probe out, and the last linear layer as it is.

    Returns:
        The sum of both losses, and the ``Aux`` with the metrics of both.
    """
    if not probe:
        return loss, {"metrics": {"loss": loss, **metrics}}
    head = last_linear(ctx.model.module, technique)
    frozen = {name: p if name.startswith(f"{head}.") else p.detach() for name, p in params.items()}
    probe_loss, aux = inner(frozen, batch, replace(ctx, train=False))
    total = loss + probe_loss
    probed: dict[str, Any] = {**aux["metrics"], "probe_loss": probe_loss}
    return total, {**aux, "metrics": {**probed, "loss": total, **metrics}}


@torch.no_grad()
def collapse(vectors_BD: Tensor) -> dict[str, Tensor]:
    """Two numbers that fall when the vectors of different samples become alike, as 0-d tensors.

    ``feature_std``: the standard deviation of the vectors, each scaled to length 1, averaged over the dimensions and
    multiplied by sqrt(D): about 1 where they spread in all directions, 0 where all are the same (Chen and He 2020,
    arXiv:2011.10566, section 4.1). ``feature_rank``: (sum of the eigenvalues)^2 / (sum of their squares) of the
    covariance matrix, from 1 where the vectors lie on a line to at most min(B - 1, D).
    """
    unit = F.normalize(vectors_BD.float(), dim=1)
    std = unit.std(0).mean() * unit.shape[1] ** 0.5
    centred = vectors_BD.float() - vectors_BD.float().mean(0)
    covariance = centred.T @ centred if centred.shape[0] >= centred.shape[1] else centred @ centred.T
    tiny = torch.finfo(torch.float32).tiny
    rank = covariance.trace().square() / covariance.square().sum().clamp_min(tiny)
    return {SPREAD: std, "feature_rank": rank}
