"""Fused kernels: an optimiser's update in place, over all tensors at once.

They change the speed and not the result. An optimiser needs only ``init`` and ``update``; kernels are optional.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import float_fields
from mltricks.functional import foreach
from mltricks.optim import fused_node
from mltricks.optim.base import Opt, Optimizer, Slots
from mltricks.technique import Params

Update = Callable[[Params, Opt, Params], tuple[Params, Opt]]
"""Maps gradients, optimiser tensors and parameters to new parameters and optimiser tensors."""


def update_of(optim: Any, donate: bool, may_be_undone: bool) -> Update:
    """Choose the update function of an optimiser.

    Args:
        optim: the optimiser.
        donate: whether it may overwrite the given tensors.
        may_be_undone: whether the old tensors are needed afterwards; the update is then unfused on every engine, so
            that all round alike.
    """
    if may_be_undone:

        def written_out(grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
            with fused_node.fused_nodes(""):
                return optim.update(grads, opt, params)

        return written_out
    return getattr(optim, "update_in_place", optim.update) if donate else optim.update


class WithKernel(Optimizer):
    """An optimiser with a fused kernel, ``fused``, that computes ``rule`` in place."""

    fused_from: ClassVar[int | None] = None
    """Mean elements per tensor from which a stack calls ``fused`` for each trial instead of ``rule`` for all trials;
    ``None``: traced steps always use ``rule``."""
    kernel_is_the_rule: ClassVar[bool] = True
    """Whether ``fused`` computes the same as ``rule``: false if a subclass overrides only ``rule``."""

    def __init_subclass__(cls) -> None:
        def nearest(*names: str) -> int:
            return next(i for i, owner in enumerate(cls.__mro__) if set(names) & vars(owner).keys())

        cls.kernel_is_the_rule = nearest("fused", "kernel") <= nearest("rule", "decayed")

    def update_in_place(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        """The same as ``update``, but in place if there is a kernel and the floats are numbers."""
        if not (self.kernel_is_the_rule and self.can_fuse()):
            return self.update(grads, opt, params)
        opt["count"].add_(1)
        parts: Sequence[tuple[list[str], Any]] = self.parts(params)
        for names, rule in parts:
            ps = [params[name] for name in names]
            strides = [p.stride() for p in ps]
            slots = {slot: laid_out(opt[slot], names, ps, strides) for slot in rule.slots if slot not in rule.shared}
            slots |= {slot: [opt[slot][names[0]]] for slot in rule.shared}
            rule.fused(laid_out(dict(grads), names, ps, strides), slots, ps, opt["count"])
        return params, opt

    def can_fuse(self) -> bool:
        """Whether ``fused`` supports these hyperparameters."""
        return False

    def apply(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        """Compute ``rule``, or record the fused kernel if the graph being traced should contain it."""
        if self.kernel_is_the_rule and fused_node.fits(self, params, grads):
            return fused_node.update(self, grads, slots, params, count)
        return self.rule(grads, slots, params, count)

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        """Compute ``rule`` in place on slots and parameters; gradients are not changed."""
        raise AssertionError(f"{type(self).__name__} defines no fused kernel")


class InPlace(WithKernel):
    """An optimiser whose ``rule`` also works in place, because it is written with the functions of ``foreach`` that
    may overwrite: ``rule`` returns the tensors that it was given, with their new values."""

    def __init_subclass__(cls) -> None:
        cls.kernel_is_the_rule = True

    def can_fuse(self) -> bool:
        cls: Any = type(self)
        return numbers(*map(vars(self).__getitem__, _names_of_floats(cls)))

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        with foreach.overwriting():
            self.rule(grads, slots, params, count)


@functools.cache
def _names_of_floats(cls: Any) -> tuple[str, ...]:
    return tuple(float_fields(cls))


def numbers(*values: Any) -> bool:
    """Whether all values are plain numbers rather than tensors."""
    for value in values:  # noqa: SIM110 (runs at every update, and is twice as fast as all())
        if not isinstance(value, (float, int)):
            return False
    return True


def laid_out(held: Params, names: Sequence[str], params: Sequence[Tensor], strides: Sequence[Any]) -> list[Tensor]:
    """The named tensors in their parameters' memory layout; converted tensors also replace those in ``held``.

    The fused kernels iterate in memory order and ignore strides, so the layouts must agree.
    """
    tensors = [held[name] for name in names]
    if [t.stride() for t in tensors] != strides:
        tensors = [
            t if t.stride() == s else torch.empty_like(p).copy_(t)
            for t, p, s in zip(tensors, params, strides, strict=True)
        ]
        held.update(zip(names, tensors, strict=True))
    return tensors
