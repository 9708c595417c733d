"""What every optimiser is: ``init`` makes its tensors, ``update`` is one pure step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.technique import Params, bind
from mltricks.values import NonNegative, Positive, check_fields

Opt = dict[str, Any]
Slots = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Optimizer:
    """The base: turns the dicts of the state into lists, and splits off the parameters that are not decayed.

    A subclass gives ``slots``, the names of its tensors per parameter, and ``rule``, its arithmetic on lists; where
    torch has a fused kernel for the rule it gives ``fused`` too, which writes in place.

    Args:
        lr: learning rate, > 0.
        weight_decay: strength of the decay, >= 0; what it multiplies is the subclass's definition.
        no_decay: patterns of parameter names that are not decayed; the word ``norm_and_bias`` stands for every
            parameter of one dimension or none.
    """

    lr: Positive
    weight_decay: NonNegative
    no_decay: Sequence[str]

    slots: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, params: Params) -> Opt:
        """The optimiser's tensors at the start: zeros for every slot and parameter, and the count of updates."""
        opt: Opt = {slot: {name: torch.zeros_like(p) for name, p in params.items()} for slot in self.slots}
        device = next(iter(params.values())).device
        return {**opt, "count": torch.zeros((), device=device)}

    def update(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        """One step.

        Args:
            grads: gradients by parameter name, shaped as the parameters.
            opt: what ``init`` or the last ``update`` returned.
            params: parameters by name.

        Returns:
            New parameters and new optimiser tensors; the given ones are untouched.
        """
        new_params = dict(params)
        new_opt: Opt = {slot: dict(opt[slot]) for slot in self.slots}
        new_opt["count"] = opt["count"] + 1
        for names, rule in self._groups(params):
            slots = {slot: [opt[slot][n] for n in names] for slot in self.slots}
            p, slots = rule.rule([grads[n] for n in names], slots, [params[n] for n in names], new_opt["count"])
            new_params.update(zip(names, p, strict=True))
            for slot in self.slots:
                new_opt[slot].update(zip(names, slots[slot], strict=True))
        return new_params, new_opt

    def update_in_place(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        """As ``update``, writing into the given tensors where there is a fused kernel and the floats are numbers."""
        if not self.can_fuse():
            return self.update(grads, opt, params)
        opt["count"] += 1
        for names, rule in self._groups(params):
            slots = {slot: [opt[slot][n] for n in names] for slot in self.slots}
            rule.fused([_laid_out_as(params[n], grads[n]) for n in names], slots, [params[n] for n in names], opt["count"])
        return params, opt

    def can_fuse(self) -> bool:
        """Whether ``fused`` may be used with these hyperparameters."""
        return False

    def rule(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> tuple[list[Tensor], Slots]:
        """The arithmetic: gradients, slots and parameters to new parameters and new slots. ``count`` is 1 at the first step."""
        raise AssertionError(f"{type(self).__name__} defines no rule")

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        """The same arithmetic in place."""
        raise AssertionError(f"{type(self).__name__} defines no fused kernel")

    def _groups(self, params: Params) -> list[tuple[list[str], Optimizer]]:
        """The names that are decayed and those that are not, each with the optimiser to use."""
        if not self.no_decay:
            return [(list(params), self)]
        spared = {name for name, p in params.items() if self._spares(name, p)}
        groups = [([n for n in params if n not in spared], self), (list(spared & params.keys()), bind(self, {"weight_decay": 0.0}))]
        return [(names, rule) for names, rule in groups if names]

    def _spares(self, name: str, p: Tensor) -> bool:
        return any(p.ndim <= 1 if pattern == "norm_and_bias" else fnmatchcase(name, pattern) for pattern in self.no_decay)


def numbers(*values: Any) -> bool:
    """Whether all values are plain numbers rather than tensors."""
    return all(isinstance(v, int | float) for v in values)


def _laid_out_as(p: Tensor, g: Tensor) -> Tensor:
    """The gradient in the storage order of its parameter: the fused kernels walk both in memory order and do not look at strides."""
    return g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
