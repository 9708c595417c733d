"""Penalties on the weights of convolutions and of linear layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mltricks.batch import Batch
from mltricks.technique import Aux, Ctx, LossFn, Params

UNPENALISED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
"""Layers whose weights may have two dimensions without being a linear map of their input."""
Measure = Callable[[Tensor], Tensor]
"""A function from a weight to its penalty, 0-d."""


def l1_norm(weight: Tensor) -> Tensor:
    """The sum of absolute values; its derivative at zero is zero.

    >>> l1_norm(torch.tensor([3.0, -4.0]))
    tensor(7.)
    """
    return weight.abs().sum()


def half_square(weight: Tensor) -> Tensor:
    """Half the sum of squares, so that the derivative is the weight itself.

    >>> half_square(torch.tensor([3.0, -4.0]))
    tensor(12.5000)
    """
    return 0.5 * weight.square().sum()


def weight_names(model: nn.Module) -> tuple[list[str], list[str]]:
    """The names of the weights of convolutions, and of those of linear (also recurrent and attention) layers.

    Biases, norms and embeddings are in neither.
    """
    conv: list[str] = []
    linear: list[str] = []
    for prefix, module in model.named_modules():
        if isinstance(module, UNPENALISED):
            continue
        for key, p in module.named_parameters(recurse=False):
            if p.ndim > 1 and "weight" in key:
                (conv if isinstance(module, _ConvNd) else linear).append(f"{prefix}.{key}" if prefix else key)
    return conv, linear


def check_weights(model: nn.Module, technique: str) -> None:
    """Refuse a model without a weight to penalise.

    Raises:
        ValueError: there is none.
    """
    if not any(weight_names(model)):
        raise ValueError(
            f"technique={technique} has no effect: the model has no weight of a convolution or linear layer. "
            f"Leave {technique} out."
        )


def penalised(inner: LossFn, measure: Measure, conv: float | Tensor, linear: float | Tensor) -> LossFn:
    """Add to a loss the measure of every weight times its layer's strength.

    The metric ``loss`` stays the objective's; the metric ``penalty`` is the sum of all penalties.

    Args:
        inner: the loss.
        measure: of one weight.
        conv, linear: strengths, >= 0.
    """

    def loss(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        value, aux = inner(params, batch, ctx)
        penalty = value.new_zeros(())
        for strength, names in zip((conv, linear), weight_names(ctx.model.module), strict=True):
            sizes = [
                measure(params[name]) for name in names if name in params
            ]  # a weight that is tied to an embedding counts as the embedding's
            penalty = penalty + strength * torch.stack(sizes).sum() if sizes else penalty
        metrics = aux["metrics"]
        metrics = {**metrics, "penalty": metrics.get("penalty", 0.0) + penalty}
        return value + penalty, {**aux, "metrics": metrics}

    return loss
