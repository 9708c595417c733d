"""Stochastic depth: residual branches are left out at random, the deeper the more often.

Source: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth", 2016, arXiv:1603.09382, section 3;
the linear rule of equation 4.
Deviation: a kept branch is divided by its probability to be kept while training, as in
``torchvision.ops.stochastic_depth``, in place of the source's product in evaluation. Every residual branch counts as
one block, so a transformer's block counts as two. A model's own stochastic depth is switched off: this takes its place.
Shapes: those of a branch's output, the batch first.
Cost: one product a branch. What is left out is computed nevertheless, since a step has no branch on a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Decay
from mltricks.state import leaves
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

RATE = "stochastic_depth_p"
"""The buffer of a branch that holds its rate, so that a schedule reaches it and a copy of the model keeps it."""

PLACES = ("drop_path", "drop_path1", "drop_path2", "stochastic_depth")
"""Where timm and torchvision have a module for it, at the end of a branch; an identity where it is off."""

BRANCHES = {
    "EncoderBlock": ("dropout", "mlp"),
    "TransformerEncoderLayer": ("dropout1", "dropout2"),
    "ResBottleneckBlock": ("f",),
}
"""The modules that end a residual branch, by their owner's class: torchvision's ViT, torch's encoder, RegNet."""


@dataclass(frozen=True)
class StochasticDepth(Technique):
    """Branch number l of L is left out with probability p l / L while training, and divided by 1 - p l / L where kept.

    Args:
        p: probability to leave out the last branch, in [0, 1).
        mode: ``row`` decides for every sample, ``batch`` for all at once.
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
    """The modules that end a residual branch, in the order of ``model.modules()``.

    Raises:
        ValueError: there are none.
    """
    found = {id(branch) for owner in model.modules() for branch in _branches_of(owner)}
    branches = [module for module in model.modules() if id(module) in found]
    if not branches:
        raise ValueError(
            f"technique=stochastic_depth leaves out residual branches, and {type(model).__name__} has none that it "
            "knows. Type model=resnet9; in a model of your own, use mltricks.models.residual.Residual or name the "
            'submodules whose output is added to a shortcut: residual_branches = ("branch",).'
        )
    return branches


def _branches_of(owner: nn.Module) -> Iterator[nn.Module]:
    if not all(getattr(owner, flag, True) for flag in ("use_res_connect", "apply_residual", "has_skip")):
        return
    kind = type(owner).__name__
    for name in getattr(owner, "residual_branches", BRANCHES.get(kind, ())):
        yield owner.get_submodule(name)
    places = [place for name in PLACES if isinstance(place := getattr(owner, name, None), nn.Module)]
    for place in places:
        switch_off(place)
        yield place
    if not places and kind in ("BasicBlock", "Bottleneck") and hasattr(owner, "bn2"):
        ends = [getattr(owner, name, None) for name in ("se", "bn3", "bn2")]
        yield next(end for end in ends if isinstance(end, nn.Module))
    inverted = {"InvertedResidual": ("conv", "block"), "_InvertedResidual": ("layers",)}.get(kind, ())
    if not places and (hasattr(owner, "use_res_connect") or hasattr(owner, "apply_residual")):
        yield from (owner.get_submodule(name) for name in inverted if hasattr(owner, name))


def switch_off(place: nn.Module) -> None:
    """Set the rate of a module of stochastic depth to zero."""
    for name in ("drop_prob", "p"):
        if hasattr(place, name):
            setattr(place, name, 0.0)


def drop_rows(branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Forward hook: leave the branch out for some samples, in training mode."""
    return drop(output, branch.get_buffer(RATE), len(output)) if branch.training else None


def drop_all(branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Forward hook: leave the branch out for the whole batch or for none of it, in training mode."""
    return drop(output, branch.get_buffer(RATE), 1) if branch.training else None


def drop(x: Tensor, p: Tensor, rows: int) -> Tensor:
    """Draw for ``rows`` rows whether they are kept, and scale the kept ones."""
    draws = torch.rand(rows, *[1] * (x.ndim - 1), device=x.device)
    return scale_kept(x, draws < 1 - p, p)


def scale_kept(x: Tensor, keep: Tensor, p: Tensor) -> Tensor:
    """x / (1 - p) where ``keep`` holds and 0 elsewhere, so that the mean stays.

    >>> scale_kept(torch.tensor([1.0, 2.0]), torch.tensor([True, False]), torch.tensor(0.5))
    tensor([2., 0.])
    """
    return x * (keep / (1 - p)).to(x.dtype)
