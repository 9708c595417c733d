"""Out of memory: retry the step with smaller micro-batches at the same batch size."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import torch

from mltricks.build import Run
from mltricks.config.options import option_of
from mltricks.state import reseed_step

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""Words in the errors of a failed allocation: by CUDA and MPS, the CPU, the CPU on Windows, and CUDA's libraries."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports a failed allocation, on CUDA, MPS or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in WORDS)


def with_smaller_micro_batches(run: Run, error: Any) -> None:
    """Rebuild the run's step with twice as many micro-batches, and report it in one line.

    The innermost gradient is split, so that every technique still sees the gradient it asks for. The generators are
    reseeded to the start of the step, so that the retried step draws the same numbers.

    Raises:
        ValueError: a micro-batch is already one sample, or the update of the weights had begun.
    """
    batch_size = run.cfg["batch_size"]
    whole = [f"technique={name}" for name, t in run.techniques.items() if t.needs_whole_batch]
    whole += [f"objective={option_of('objective', run.objective)}"] if run.objective.needs_whole_batch else []
    if whole:
        raise ValueError(
            f"out of memory, and {whole[0]} compares the samples of a batch, which cannot be split: "
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
    traceback.clear_frames(error.__traceback__)  # the traceback's frames keep the failed step's tensors alive
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    reseed_step(run.cfg["seed"], int(run.state["step"]))
    print(f"out of memory: now {num} micro-batches make every gradient; batch_size={batch_size} stays", file=sys.stderr)


def update_has_begun(run: Run) -> bool:
    """Whether the failed step has written to the state: an in-place update increments its count first."""
    count = run.state["opt"].get("count")
    return count is not None and bool(count > run.state["step"])
