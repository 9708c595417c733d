"""Modules that keep no activations for the backward pass, and compute them again in it.

``torch.utils.checkpoint`` alone does not do: a model's parameters and buffers are swapped in for a call only, so that
the second pass, which happens after the call, would see others; and it would update batch norm's statistics twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Held = list[tuple[dict[str, Any], str, Tensor]]
"""Tensors with their places, a dict and a key."""


def recompute(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Let a module compute its activations again in the backward pass.

    Args:
        module: whose ``forward`` is replaced; a copy of the module has one of its own.
        forward: what it computes, as a function of the module and its inputs.
    """

    def recomputed(self: nn.Module, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return forward(self, *inputs)
        params, buffers = held(self, "_parameters"), [(d, k, t.clone()) for d, k, t in held(self, "_buffers")]
        modes = {part: part.training for part in self.modules()}
        passes = count()

        def once_more(*inputs: Any) -> Any:
            if next(passes) == 0:
                return forward(self, *inputs)
            # copies: a graph that is kept may be passed through again
            with placed([*params, *((d, k, t.clone()) for d, k, t in buffers)]), in_modes(modes):
                return forward(self, *inputs)

        return checkpoint(once_more, *inputs, use_reentrant=False)

    module.forward = MethodType(recomputed, module)  # type: ignore[method-assign]


def held(module: nn.Module, kind: str) -> Held:
    """The parameters or buffers of a module and its parts, as they are now."""
    parts = [getattr(part, kind) for part in module.modules()]
    return [(part, name, tensor) for part in parts for name, tensor in part.items() if tensor is not None]


@contextmanager
def placed(tensors: Held) -> Iterator[None]:
    """Inside this block, tensors are in their places."""
    kept = [(part, name, part[name]) for part, name, _ in tensors]
    try:
        for part, name, tensor in tensors:
            part[name] = tensor
        yield
    finally:
        for part, name, tensor in kept:
            part[name] = tensor


@contextmanager
def in_modes(modes: dict[nn.Module, bool]) -> Iterator[None]:
    """Inside this block, modules are in training or evaluation mode as given."""
    kept = {module: module.training for module in modes}
    try:
        for module, training in modes.items():
            module.training = training
        yield
    finally:
        for module, training in kept.items():
            module.training = training
