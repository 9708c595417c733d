"""When the device runs out of memory: smaller micro-batches at the same effective batch."""

from __future__ import annotations

import sys
from typing import Any

import torch

from mltricks.build import Run, compose_step


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on CUDA, MPS or the CPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def with_smaller_micro_batches(run: Run, error: Any) -> None:
    """Rebuild the run's step with twice as many micro-batches, and say so in one line.

    Raises:
        ValueError: a micro-batch is one sample already.
    """
    from mltricks.techniques.accumulate import Accumulate

    batch_size = run.cfg["batch_size"]
    now = run.techniques.get("accumulate")
    num = 2 * (now.num_micro if isinstance(now, Accumulate) else 1)
    if num > batch_size:
        raise ValueError(
            f"out of memory with micro-batches of one sample: {str(error).splitlines()[0]}. Type a smaller model, or precision=bf16."
        ) from error
    run.techniques = {**run.techniques, "accumulate": Accumulate(num_micro=num)}
    run.state["own"].setdefault("accumulate", {})
    run.step = compose_step(run)
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    print(f"out of memory: now {num} micro-batches of {-(-batch_size // num)} make the batch of {batch_size}", file=sys.stderr)
