"""Gradual unfreezing: the last layer learns alone at first, then one more layer below it after another.

Source: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, arXiv:1801.06146,
section 3.3 (one epoch a layer; discriminative rates and slanted triangular schedule beside it); fastai's ``freeze_to``.
Deviation: optimisers created at unfreezing start with empty tensors; here those of frozen layers follow the gradients
from the start, and only the update is taken back. With empty ones, Adam would divide the first updates by a second
moment whose bias correction is spent, and they would be up to 6.6 times the learning rate. Norms of gradients, in
``clip_norm`` and ``sam``, so include those of frozen layers.
Cost: a copy of the weights, one choice between two tensors per parameter, and with norms=fixed a second pass through
the batch norms. The backward pass runs through all layers at all times; stages with ``technique=freeze`` save it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.freezing import still_norms
from mltricks.functional.depths import depths
from mltricks.functional.held_norm import HELD, hold
from mltricks.optim.matching import matching
from mltricks.state import leaves
from mltricks.technique import Aux, Ctx, GradFn, Own, Params, Technique
from mltricks.techniques.freeze import Norms


@dataclass(frozen=True)
class Unfreezing(Technique):
    """The base of techniques whose frozen parameters learn later: p = p_before while a parameter's level is frozen.

    A level is a number of 1 or more for each such parameter; its tensors and those of its norms are frozen together.

    Args:
        norms: what the normalisation layers of frozen levels do: ``fixed`` (evaluation mode), ``adapt`` (their
            statistics follow the batches), ``train`` (scales and shifts are trained, too).
    """

    norms: Norms

    needs_previous = True
    after_changes = "update"

    @abstractmethod
    def levels(self, params: Params) -> Mapping[str, int]:
        """The level of each parameter that is frozen at first."""

    @abstractmethod
    def is_frozen(self, level: Tensor, ctx: Ctx) -> Tensor:
        """Whether a level, 0-d, is frozen at this step: a 0-d bool."""

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        levels = self.levels(params)
        if self.norms == "train":
            learning = matching(["norm"], params)
            levels = {name: level for name, level in levels.items() if name not in learning}
        norms = held_norms(model, levels, next(leaves(batch["x"])).device) if self.norms == "fixed" else {}
        own = {"params": levels, "norms": norms}
        return params, {part: {n: torch.tensor(float(k)) for n, k in named.items()} for part, named in own.items()}

    def grads(self, inner: GradFn) -> GradFn:
        def grads(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, Aux]:
            ctx.buffers.update({name: self.is_frozen(level, ctx) for name, level in ctx.own["norms"].items()})
            return inner(params, batch, ctx)

        return grads

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        new, before = dict(params), aux["previous"]
        for name, level in ctx.own["params"].items():
            new[name] = torch.where(self.is_frozen(level, ctx), before[name], params[name])
        return new, ctx.own


def held_norms(model: nn.Module, levels: Mapping[str, int], device: torch.device) -> dict[str, int]:
    """Hold the normalisation layers of each level; return the level of each one's buffer ``held``."""
    names, found = {id(module): name for name, module in model.named_modules()}, {}
    for level in sorted(set(levels.values())):
        for norm in still_norms(model, {name for name, of in levels.items() if of == level}):
            hold(norm, device)
            found[f"{names[id(norm)]}.{HELD}".lstrip(".")] = level
    return found


@dataclass(frozen=True)
class GradualUnfreezing(Unfreezing):
    """The k-th layer below the last one learns from epoch k ``epochs_per_layer`` on.

    Args:
        epochs_per_layer: E, epochs between the unfreezing of a layer and of the next one below, >= 0.
        norms: as in ``Unfreezing``.
    """

    epochs_per_layer: NonNegative

    def levels(self, params: Params) -> Mapping[str, int]:
        found = {name: k for name, k in depths(params).items() if k > 0}
        if not found:
            raise ValueError(
                "technique=gradual_unfreezing has no effect: the model has a single layer with parameters. "
                "Leave gradual_unfreezing out."
            )
        return found

    def is_frozen(self, level: Tensor, ctx: Ctx) -> Tensor:
        if ctx.steps_per_epoch is None:
            raise ValueError(
                "technique=gradual_unfreezing counts epochs. Give build_step(..., steps_per_epoch=N), the number of "
                "updates an epoch."
            )
        return ctx.step < (level * self.epochs_per_layer * ctx.steps_per_epoch).round()
