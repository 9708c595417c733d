"""What a sampler is: the order of the samples in every epoch, and what it may know for that.

A sampler has ``order(split, seed) -> (N,) int64``, the positions of one epoch; N is the same in every epoch. Of the
following it is given what its ``order`` names as further arguments:

==============  ================================================================================================
``epoch``       number of the epoch, from 0
``progress``    share of the run that is done when the epoch begins, in [0, 1]
``batch_size``  samples a batch
``own``         its own tensors, on the CPU, as they were when the epoch began: only of a sampler that learns
==============  ================================================================================================

A sampler that learns from the losses of past batches has two methods more: ``setup(split) -> Own`` makes its own
tensors, and ``learn(own, index, losses) -> Own`` is called inside every step. The tensors are a part of the state, and
``learn`` obeys the rules of a verb: pure, and without reading a tensor back. ``index`` (B,) int64 names a sample
twice where the order does, and which of two writes comes last is undefined on CUDA: reduce them (``scatter_reduce`` by
``amax``). ``losses`` (B,) float32 are those of the objective, detached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.state import map_state

Own = dict[str, Any]
Held = dict[str, Own]
"""The sampler's part of the state: its tensors ``now``, and as they were at the ``start`` of the epoch, which makes the
order of an epoch that has begun a function of the state."""
Learn = Callable[[Held, Tensor, Batch, dict[str, Any]], Held]
"""The part of the state, the number of updates so far, a batch and the ``Aux`` of its loss to the new part."""

OFFERED = ("epoch", "progress", "batch_size", "own")
PER_SAMPLE = "per_sample"
"""Where ``Aux`` holds the losses of the samples, (B,) float32, for a sampler that learns."""


def learns(sampler: Any) -> bool:
    """Whether a sampler, or a class of samplers, changes its order by the losses of past batches."""
    return callable(getattr(sampler, "learn", None))


def arguments(sampler: Any) -> tuple[str, ...]:
    """What a sampler's ``order`` wants to know besides the split and the seed.

    Raises:
        ValueError: something that is not offered, or the methods of a sampler that learns are not all there.
    """
    name, known = type(sampler).__name__, [*inspect.signature(sampler.order).parameters.values()][2:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [p.name for p in known if p.name not in OFFERED and p.default is p.empty and p.kind not in variadic]
    if unknown:
        raise ValueError(
            f"sampler={name}: its order wants {unknown[0]}, which nobody gives. It may name {', '.join(OFFERED)} after "
            "split and seed; give anything else a default."
        )
    wanted = tuple(p.name for p in known if p.name in OFFERED)
    parts = {"setup": callable(getattr(sampler, "setup", None)), "learn": learns(sampler), "own": "own" in wanted}
    if len(set(parts.values())) > 1:
        missing = ", ".join(part for part, there in parts.items() if not there)
        raise ValueError(
            f"sampler={name} lacks {missing}: a sampler that learns has setup and learn, and its order names own."
        )
    return wanted


def first_held(sampler: Any, split: Any) -> Held:
    """The part of the state at the start of a run."""
    own = sampler.setup(split)
    return {"now": own, "start": map_state(torch.clone, own)}


def teaching(sampler: Any, steps_per_epoch: int) -> Learn:
    """What a step does for a sampler that learns.

    Args:
        sampler: the sampler.
        steps_per_epoch: updates an epoch.
    """

    def learn(held: Held, step: Tensor, batch: Batch, aux: dict[str, Any]) -> Held:
        losses, index = aux.get(PER_SAMPLE), batch["index"]
        if losses is None or losses.shape != index.shape:
            found = "none" if losses is None else f"{len(losses)}"
            raise ValueError(
                f"sampler={type(sampler).__name__} learns from the loss of every sample, and a technique leaves "
                f"{found} for a batch of {len(index)}. Leave out the technique that replaces the loss, or type "
                "sampler=shuffle."
            )
        begins = step % steps_per_epoch == 0
        start = _where(begins, held["now"], held["start"])
        return {"now": sampler.learn(held["now"], index, losses), "start": start}

    return learn


def _where(flag: Tensor, yes: Any, no: Any) -> Any:
    if isinstance(yes, dict):
        return {key: _where(flag, yes[key], no[key]) for key in yes}
    return torch.where(flag, yes, no)
