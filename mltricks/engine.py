"""Engines execute the step. Each wraps a step and returns a step, so the same step runs under all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx

from mltricks.config.values import Count, check_fields
from mltricks.graph.tracing import TracedStep
from mltricks.step import Step

Finish = Callable[[fx.GraphModule, list[Tensor]], Callable[..., Any]]


@dataclass(frozen=True)
class Eager:
    """Run the step as ordinary Python: breakpoints work, and hyperparameters are plain numbers."""

    tensors: ClassVar[bool] = False
    """Whether hyperparameters are passed as 0-d tensors."""
    donate: ClassVar[bool] = True
    """Whether the step may overwrite the state it is given."""
    finish: ClassVar[Finish | None] = None
    """Turns the traced graph of a stack into a callable; ``None``: the graph is replayed."""

    def __call__(self, step: Step, device: torch.device) -> Step:
        return step


@dataclass(frozen=True)
class Traced:
    """Trace the step, gradient and update included, into one flat graph of ATen operations and replay that."""

    tensors: ClassVar[bool] = True
    donate: ClassVar[bool] = False
    finish: ClassVar[Finish | None] = None

    def __call__(self, step: Step, device: torch.device) -> Step:
        return TracedStep(step)


@dataclass(frozen=True)
class Compile:
    """Compile the traced graph with TorchInductor. It draws the same random numbers as the other engines.

    Args:
        mode: ``torch.compile``'s: ``default`` or ``max-autotune-no-cudagraphs``.

    Raises:
        ValueError: an unknown mode.
    """

    mode: Literal["default", "max-autotune-no-cudagraphs"]

    tensors: ClassVar[bool] = True
    donate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self, "engine.")

    def __call__(self, step: Step, device: torch.device) -> Step:
        return TracedStep(step, self.finish)

    def finish(self, graph: fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
        """Compile a traced graph."""
        options: dict[str, Any] = {"fallback_random": True}
        if self.mode != "default":
            options |= torch._inductor.list_mode_options(self.mode)
        graph.recompile()
        return torch.compile(graph, fullgraph=True, dynamic=False, options=options)


@dataclass(frozen=True)
class Graph:
    """Capture the traced graph as one CUDA graph, so that a whole step is a single launch.

    Args:
        warmup_steps: runs before the capture, in which libraries such as cuDNN choose their kernels.

    Raises:
        ValueError: the device is not CUDA.
    """

    warmup_steps: Count

    tensors: ClassVar[bool] = True
    donate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self, "engine.")

    def __call__(self, step: Step, device: torch.device) -> Step:
        from mltricks.graph.cuda_graph import CapturedStep

        if device.type != "cuda":
            raise ValueError(
                f"engine=graph captures CUDA graphs, and the device is {device}. Type engine=traced or engine=compile."
            )
        return CapturedStep(step, self.warmup_steps)

    def finish(self, graph: fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
        """Capture a traced graph."""
        from mltricks.graph.cuda_graph import CapturedGraph

        return CapturedGraph(graph, example, self.warmup_steps)
