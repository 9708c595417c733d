"""When the device runs out of memory: smaller micro-batches at the same effective batch."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import torch

from mltricks.build import Run
from mltricks.state import reseed_step

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""How CUDA and MPS, the CPU, the CPU on Windows, and CUDA's libraries say that an allocation failed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on CUDA, MPS or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in WORDS)


def with_smaller_micro_batches(run: Run, error: Any) -> None:
    """Rebuild the run's step with twice as many micro-batches, and say so in one line.

    The innermost gradient is cut, so that every technique still sees the gradient it asks for. The random state is set
    back to the start of the step, so that the step is the one that failed.

    Raises:
        ValueError: a micro-batch is one sample already, or the update of the weights had begun.
    """
    batch_size = run.cfg["batch_size"]
    whole = [name for name, t in run.techniques.items() if t.needs_whole_batch]
    if whole:
        raise ValueError(
            f"out of memory, and technique={whole[0]} compares the samples of a batch, which cannot be cut: "
            f"{str(error).splitlines()[0]}. Type a smaller batch_size, a smaller model, or precision=bf16."
        ) from error
    num = 2 * run.num_micro
    reason = str(error).splitlines()[0]
    if num > batch_size:
        raise ValueError(
            f"out of memory with micro-batches of one sample: {reason}. Type a smaller model, or precision=bf16."
        ) from error
    if update_has_begun(run):
        raise ValueError(
            f"out of memory in the update of the weights, where smaller micro-batches do not help: {reason}. "
            "Type a smaller model, or an optimiser with fewer tensors, such as optim=sgd."
        ) from error
    run.in_micro_batches(num)
    traceback.clear_frames(error.__traceback__)  # the frames of the failed step hold its tensors
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    reseed_step(run.cfg["seed"], int(run.state["step"]))
    print(f"out of memory: now {num} micro-batches make every gradient; batch_size={batch_size} stays", file=sys.stderr)


def update_has_begun(run: Run) -> bool:
    """Whether the failed step has written into the state: an update in place counts itself before anything else."""
    count = run.state["opt"].get("count")
    return count is not None and bool(count > run.state["step"])
