"""Gradient centralisation: subtract from the gradient of every unit its mean.

Source: Yong, Huang, Hua, Zhang, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks", 2020,
arXiv:2004.01461, equation 1; https://github.com/Yonghongwei/Gradient-Centralization.
Deviation: ``strength`` is ours; the source's is 1. The loss's gradient alone is centred; the authors also centre what
coupled weight decay adds to it. ``conv`` also means convolutions over one axis; the authors' code leaves them out.
Units of one weight are spared: each is its own mean, so its gradient would be 0 and the unit would never learn.
Cost: one mean and one difference per weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Probability
from mltricks.functional.penalty import weight_names
from mltricks.technique import Aux, Ctx, GradFn, Own, Params, Technique


@dataclass(frozen=True)
class Centralize(Technique):
    """g_i = g_i - strength mean(g_i) for every unit i, a row along the first axis of a parameter of two or more axes.

    Rows of one number stay as they are.

    Args:
        strength: share of the mean that is subtracted, in [0, 1].
        layers: ``all`` parameters of two or more axes, or the weights of convolutions (``conv``).
    """

    strength: Probability
    layers: Literal["all", "conv"]

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        if not self.centred(model, params):
            what = "convolution" if self.layers == "conv" else "weight of two or more axes, with several numbers a unit"
            advice = ", or type technique.centralize.layers=all" if self.layers == "conv" else ""
            raise ValueError(
                f"technique=centralize has no effect: the model has no {what}. Leave centralize out{advice}."
            )
        return params, {}

    def centred(self, model: nn.Module, params: Params) -> list[str]:
        """The names of the parameters whose gradients are centred."""
        several = [name for name, p in params.items() if p.ndim > 1 and p[0].numel() > 1]
        return [name for name in weight_names(model)[0] if name in several] if self.layers == "conv" else several

    def grads(self, inner: GradFn) -> GradFn:
        def centred(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            grads, aux = inner(params, batch, ctx)
            names = self.centred(ctx.model.module, grads)
            return {**grads, **{name: centre(grads[name], self.strength) for name in names}}, aux

        return centred


def centre(grad: Tensor, strength: float | Tensor) -> Tensor:
    """Subtract from every row along the first axis a share of its mean.

    >>> import torch
    >>> centre(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), 1.0)
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    return grad - strength * grad.mean(dim=tuple(range(1, grad.ndim)), keepdim=True)
