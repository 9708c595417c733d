"""Normalisation layers that are in evaluation mode while a tensor says so, and otherwise in training mode.

A step that a tensor steers cannot change modes: it computes both and chooses. Each choice equals its mode bit for bit.
Cost: in training the layer computes twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HELD = "held"
"""Name of a layer's buffer, 0-d bool: whether it is in evaluation mode."""


def hold(norm: nn.Module, device: torch.device) -> None:
    """Let a layer's buffer ``held`` decide between its modes; hooks do it, so any kind of layer will do."""
    norm.register_buffer(HELD, torch.zeros((), dtype=torch.bool, device=device))
    norm.register_forward_pre_hook(remember)
    norm.register_forward_hook(choose)


def remember(norm: Any, inputs: Any) -> None:
    """Forward pre-hook: keep the statistics as they are before the pass."""
    if norm.training:
        norm.before = {name: b.clone() for name, b in norm._buffers.items() if b is not None}


def choose(norm: Any, inputs: tuple[Any, ...], trained: Tensor) -> Tensor | None:
    """Forward hook: where the layer is held, give the output of evaluation mode and the statistics from before."""
    if not norm.training:
        return None
    before, after = norm.before, dict(norm._buffers)
    norm._buffers.update(before)
    norm.training = False
    evaluated = type(norm).forward(norm, *inputs)
    norm.training = True
    norm._buffers.update({name: torch.where(before[HELD], b, after[name]) for name, b in before.items()})
    del norm.before
    return torch.where(before[HELD], evaluated, trained)
