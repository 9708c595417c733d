"""Kernels that make an optimiser's update fast: in place, over all tensors at once.

Nothing here changes what an optimiser computes. One needs ``init`` and ``update`` alone; the step finds the rest here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.optim import fused_node
from mltricks.optim.base import Opt, Optimizer, Slots
from mltricks.technique import Params

Update = Callable[[Params, Opt, Params], tuple[Params, Opt]]
"""Gradients, the optimiser's tensors and parameters to new parameters and tensors."""


def update_of(optim: Any, donate: bool, may_be_undone: bool) -> Update:
    """The way in which an optimiser updates.

    Args:
        optim: the optimiser.
        donate: it may write into the tensors that it is given.
        may_be_undone: the old tensors are needed afterwards, and the step rounds the same on every engine.
    """
    if may_be_undone:

        def written_out(grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
            with fused_node.fused_nodes(""):
                return optim.update(grads, opt, params)

        return written_out
    return getattr(optim, "update_in_place", optim.update) if donate else optim.update


class WithKernel(Optimizer):
    """An optimiser whose ``rule`` can also be done in place, by ``fused``."""

    fused_from: ClassVar[int | None] = None
    """Elements a tensor, on average, from which a stack has ``fused`` for each trial and not ``rule`` for all of them;
    ``None``: a recorded step always has ``rule``."""
    kernel_is_the_rule: ClassVar[bool] = True
    """Whether ``fused`` does what ``rule`` does: a subclass may have changed the one and inherited the other."""

    def __init_subclass__(cls) -> None:
        def nearest(*names: str) -> int:
            return next(i for i, owner in enumerate(cls.__mro__) if set(names) & vars(owner).keys())

        cls.kernel_is_the_rule = nearest("fused", "kernel") <= nearest("rule", "decayed")

    def update_in_place(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        """As ``update``, writing into the given tensors where there is a way to and the floats are numbers."""
        if not (self.kernel_is_the_rule and self.can_fuse()):
            return self.update(grads, opt, params)
        opt["count"].add_(1)
        groups: Sequence[tuple[list[str], Any]] = self.groups(params)
        for names, rule in groups:
            ps = [params[name] for name in names]
            strides = [p.stride() for p in ps]
            slots = {slot: laid_out(opt[slot], names, ps, strides) for slot in rule.slots}
            rule.fused(laid_out(dict(grads), names, ps, strides), slots, ps, opt["count"])
        return params, opt

    def can_fuse(self) -> bool:
        """Whether ``fused`` may be used with these hyperparameters."""
        return False

    def apply(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        """``rule``, or where a graph is recorded that shall have the fused kernel in it, that."""
        if self.kernel_is_the_rule and fused_node.fits(self, params, grads):
            return fused_node.update(self, grads, slots, params, count)
        return self.rule(grads, slots, params, count)

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        """The same arithmetic in place, on slots and parameters; the gradients are only read."""
        raise AssertionError(f"{type(self).__name__} defines no fused kernel")


def numbers(*values: Any) -> bool:
    """Whether all values are plain numbers rather than tensors."""
    for value in values:  # noqa: SIM110 (called at every update, and twice as fast as all())
        if not isinstance(value, (float, int)):
            return False
    return True


def laid_out(held: Params, names: Sequence[str], params: Sequence[Tensor], strides: Sequence[Any]) -> list[Tensor]:
    """The named tensors in the storage order of their parameters, put back into ``held`` where they were not.

    The fused kernels walk both in memory order and do not look at strides.
    """
    tensors = [held[name] for name in names]
    if [t.stride() for t in tensors] != strides:
        tensors = [
            t if t.stride() == s else torch.empty_like(p).copy_(t)
            for t, p, s in zip(tensors, params, strides, strict=True)
        ]
        held.update(zip(names, tensors, strict=True))
    return tensors
