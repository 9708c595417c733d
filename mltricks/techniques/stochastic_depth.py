"""Stochastic depth: drop residual branches at random, deeper ones more often.

Source: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth", 2016, arXiv:1603.09382, section 3;
the linear rule of equation 4.
Deviation: in training a kept branch is divided by its keep probability, as in ``torchvision.ops.stochastic_depth``; the
source multiplies in evaluation instead. Every residual branch counts as one block, so a transformer block counts as
two. A model's own stochastic depth is switched off and replaced.
Shapes: a branch's output, with the batch as the first axis.
Cost: one product per branch. Dropped branches are still computed, because a step cannot branch on a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Decay
from mltricks.functional.residual_branches import branch_ends, own_depths
from mltricks.state import leaves
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

RATE = "stochastic_depth_p"
"""Name of the branch's buffer for the rate: a schedule can set it, and a copy of the model keeps it."""


@dataclass(frozen=True)
class StochasticDepth(Technique):
    """In training, branch l of L is dropped with probability p l / L, and divided by 1 - p l / L if kept.

    Args:
        p: probability of dropping the last branch, in [0, 1).
        mode: ``row`` draws for every sample, ``batch`` once for the batch.
    """

    p: Decay
    mode: Literal["row", "batch"]

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        branches = residual_branches(model)
        hook = drop_rows if self.mode == "row" else drop_all
        for depth, branch in enumerate(branches, 1):
            rate = torch.ones((), device=next(leaves(batch)).device) * self.p * (depth / len(branches))
            branch.register_buffer(RATE, rate)
            branch.register_forward_hook(hook)
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        def shallow(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            names = [name for name in ctx.buffers if name.rpartition(".")[2] == RATE]
            for depth, name in enumerate(names, 1):
                ctx.buffers[name] = torch.ones_like(ctx.buffers[name]) * self.p * (depth / len(names))
            return inner(params, batch, ctx)

        return shallow


def residual_branches(model: nn.Module) -> list[nn.Module]:
    """The modules that end a residual branch; the model's own stochastic depth is switched off.

    Raises:
        ValueError: the model has none.
    """
    branches = branch_ends(model)
    for place in own_depths(model):
        switch_off(place)
    if not branches:
        raise ValueError(
            f"technique=stochastic_depth leaves out residual branches, and {type(model).__name__} has none that it "
            "knows. Type model=resnet9, or model.residual=true for a model with this switch; in a model of your own, "
            "use mltricks.models.residual.Residual or name the submodules whose output is added to a shortcut: "
            'residual_branches = ("branch",).'
        )
    return branches


def switch_off(place: nn.Module) -> None:
    """Set the rate of a stochastic-depth module to zero."""
    for name in ("drop_prob", "p"):
        if hasattr(place, name):
            setattr(place, name, 0.0)


def drop_rows(branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Forward hook: drop the branch for some samples, in training mode."""
    return drop(output, branch.get_buffer(RATE), len(output)) if branch.training else None


def drop_all(branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Forward hook: drop the branch for the whole batch or not at all, in training mode."""
    return drop(output, branch.get_buffer(RATE), 1) if branch.training else None


def drop(x: Tensor, p: Tensor, rows: int) -> Tensor:
    """Draw which of ``rows`` rows to keep, and scale those."""
    draws = torch.rand(rows, *[1] * (x.ndim - 1), device=x.device)
    return scale_kept(x, draws < 1 - p, p)


def scale_kept(x: Tensor, keep: Tensor, p: Tensor) -> Tensor:
    """x / (1 - p) where ``keep`` is true and 0 elsewhere, so that the mean is kept.

    >>> scale_kept(torch.tensor([1.0, 2.0]), torch.tensor([True, False]), torch.tensor(0.5))
    tensor([2., 0.])
    """
    return x * (keep / (1 - p)).to(x.dtype)
