"""A user's optimiser: a dataclass with ``init`` and ``update`` and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeavyBall:
    """m = momentum m + g;  p = p - lr m."""

    lr: float
    momentum: float

    def init(self, params: dict[str, Tensor]) -> dict[str, Any]:
        return {"momentum": {name: torch.zeros_like(p) for name, p in params.items()}}

    def update(self, grads: Any, opt: Any, params: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        momentum = {name: self.momentum * opt["momentum"][name] + g for name, g in grads.items()}
        return {name: p - self.lr * momentum[name] for name, p in params.items()}, {"momentum": momentum}
