"""Engines: how a step is executed. Each turns a step into a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mltricks.step import Step


@dataclass(frozen=True)
class Eager:
    """One operation after another, as written: breakpoints work, and hyperparameters are plain numbers."""

    tensors: ClassVar[bool] = False
    """Whether the floats are fed as 0-d tensors."""
    donate: ClassVar[bool] = True
    """Whether the step may write into the state it is given."""

    def __call__(self, step: Step, device: torch.device) -> Step:
        return step


@dataclass(frozen=True)
class Traced:
    """One flat graph of ATen operations, gradient and update included, replayed without automatic differentiation."""

    tensors: ClassVar[bool] = True
    donate: ClassVar[bool] = False

    def __call__(self, step: Step, device: torch.device) -> Step:
        from mltricks.tracing import TracedStep

        return TracedStep(step)
