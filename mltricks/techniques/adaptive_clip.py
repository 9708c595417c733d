"""Adaptive gradient clipping: limit the gradient of every unit in proportion to the norm of its weights.

Source: Brock, De, Smith, Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization", 2021,
arXiv:2102.06171, equation 3; https://github.com/google-deepmind/deepmind-research/blob/master/nfnets/optim.py.
Deviation: with loss scaling, the norm is that of the unscaled gradient. A unit is a row along the first axis, which is
the input of a transposed convolution.
Cost: two norms and one product per parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Positive
from mltricks.functional.layers import linear_layers
from mltricks.technique import Aux, Ctx, GradFn, Own, Params, Technique

TINY = 1e-6
"""Smallest norm of a gradient that is divided by, as in the authors' code."""


@dataclass(frozen=True)
class AdaptiveClip(Technique):
    """g_i = g_i min(1, max_ratio max(||w_i||, eps) / ||g_i||) for every unit i.

    A unit is an output of a linear layer or convolution; a parameter of one axis, such as a bias, is one unit.

    Args:
        max_ratio: the largest ratio of the norms of gradient and weights that passes unchanged, > 0.
        eps: the smallest norm of weights, so that those that start at zero can grow, >= 0.
        exclude: patterns of the names of parameters that are not clipped; ``None`` for the last linear layer's.
    """

    max_ratio: Positive
    eps: NonNegative
    exclude: Sequence[str] | None

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        for pattern in self.exclude or ():
            if not any(fnmatchcase(name, pattern) for name in params):
                raise ValueError(
                    f"technique.adaptive_clip.exclude={list(self.exclude or ())}: no parameter is called {pattern}. "
                    f"Parameters: {', '.join(params)}."
                )
        if not clipped_names(model, params, self.exclude):
            raise ValueError(
                "technique=adaptive_clip has no effect: all parameters are excluded. "
                "Type technique.adaptive_clip.exclude=none to clip all of them."
            )
        return params, {}

    def grads(self, inner: GradFn) -> GradFn:
        def clipped(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            grads, aux = inner(params, batch, ctx)
            ratio = self.max_ratio if ctx.grad_scale is None else self.max_ratio * ctx.grad_scale
            names = clipped_names(ctx.model.module, grads, self.exclude)
            return {**grads, **{n: clip_units(grads[n], params[n], ratio, self.eps) for n in names}}, aux

        return clipped


def clipped_names(model: nn.Module, params: Params, exclude: Sequence[str] | None) -> list[str]:
    """The names of the parameters that are clipped."""
    patterns = (
        [f"{name}.*" if name else "*" for name in list(linear_layers(model))[-1:]] if exclude is None else exclude
    )
    return [name for name in params if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def clip_units(grad: Tensor, weight: Tensor, max_ratio: float | Tensor, eps: float | Tensor) -> Tensor:
    """The gradient with the norm of every unit at most ``max_ratio`` times that of its weights.

    >>> clip_units(torch.tensor([[3.0, 4.0], [0.0, 0.1]]), torch.tensor([[0.0, 2.0], [1.0, 0.0]]), 0.5, 1e-3)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.1000]])
    """
    most = unit_norms(weight).clamp_min(eps) * max_ratio
    norm = unit_norms(grad)
    return torch.where(norm > most, grad * (most / norm.clamp_min(TINY)), grad)


def unit_norms(x: Tensor) -> Tensor:
    """The 2-norm of every row of ``x`` along the first axis, with axes of size 1; of a vector, one norm.

    Shapes: (R, ...) -> (R, 1, ...); (R,) -> 0-d.
    """
    if x.ndim <= 1:
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)
