"""The sampler protocol: a sampler determines the order of the samples in every epoch.

A sampler has ``order(split, seed) -> (N,) int64``, the positions of one epoch; N is the same in every epoch. ``order``
may name further arguments, and receives those that it names:

==================  ============================================================================================
``epoch``           number of the epoch, from 0
``progress``        fraction of the run completed when the epoch begins, in [0, 1]
``progress_after``  the same when the epoch has ended
``batch_size``      samples per batch
``own``             its own tensors, on the CPU, as of the start of the epoch: only for a learning sampler
==================  ============================================================================================

A learning sampler uses the losses of past batches. It has two more methods: ``setup(split) -> Own`` creates its own
tensors, and every step calls ``learn(own, index, losses) -> Own``. The tensors are part of the state, and ``learn``
obeys the rules of a verb: it is pure and never reads a tensor back to the host. ``index`` (B,) int64 may contain a
sample twice, and CUDA does not define which of two writes to one place wins: reduce them (``scatter_reduce`` with
``amax``). ``losses`` (B,) float32 are the objective's, detached.

A learning sampler may draw samples more or less often and make up for it: ``weights(own) -> (N,) float32`` are factors
of the losses in an epoch that begins with ``own``. The batches then have the key ``weight``, and the loss is the mean
of the weighed losses. A sampler that learns in some of its settings only sets ``learn`` and ``setup`` to ``None`` in
the others, and gives ``own`` a default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.options import option_of
from mltricks.state import map_state

Own = dict[str, Any]
Held = dict[str, Own]
"""The sampler's part of the state: its tensors ``now`` and at the ``start`` of the epoch. The latter determine the
order of the current epoch, so that a resumed run continues it."""
Learn = Callable[[Held, Tensor, Batch, dict[str, Any]], Held]
"""Maps the sampler's state, the number of updates so far, a batch and its loss's ``Aux`` to the new state."""

OFFERED = ("epoch", "progress", "progress_after", "batch_size", "own")
PER_SAMPLE = "per_sample"
"""Key of ``Aux`` for the per-sample losses, (B,) float32, that a learning sampler needs."""


def learns(sampler: Any) -> bool:
    """Whether a sampler, or a class of samplers, learns from the losses of past batches."""
    return callable(getattr(sampler, "learn", None))


def arguments(sampler: Any) -> tuple[str, ...]:
    """The arguments of a sampler's ``order`` besides the split and the seed.

    Raises:
        ValueError: an argument is unknown, or a learning sampler lacks a method.
    """
    name, known = type(sampler).__name__, [*inspect.signature(sampler.order).parameters.values()][2:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [p.name for p in known if p.name not in OFFERED and p.default is p.empty and p.kind not in variadic]
    if unknown:
        raise ValueError(
            f"sampler={name}: its order names the unknown argument {unknown[0]}. It may name {', '.join(OFFERED)} "
            "after split and seed; give anything else a default."
        )
    idle_own = () if learns(sampler) else tuple(p.name for p in known if p.name == "own" and p.default is not p.empty)
    wanted = tuple(p.name for p in known if p.name in OFFERED and p.name not in idle_own)
    parts = {"setup": callable(getattr(sampler, "setup", None)), "learn": learns(sampler), "own": "own" in wanted}
    if len(set(parts.values())) > 1:
        missing = ", ".join(part for part, there in parts.items() if not there)
        raise ValueError(
            f"sampler={name} lacks {missing}: a sampler that learns has setup and learn, and its order names own."
        )
    return wanted


def first_held(sampler: Any, split: Any) -> Held:
    """The sampler's state at the start of a run."""
    own = sampler.setup(split)
    return {"now": own, "start": map_state(torch.clone, own)}


def teaching(sampler: Any, steps_per_epoch: int) -> Learn:
    """Build the function with which a step updates a learning sampler.

    Args:
        sampler: the sampler.
        steps_per_epoch: updates per epoch.
    """

    def learn(held: Held, step: Tensor, batch: Batch, aux: dict[str, Any]) -> Held:
        losses, index = aux.get(PER_SAMPLE), batch["index"]
        if losses is None or losses.shape != index.shape:
            found = "none" if losses is None else f"{len(losses)}"
            raise ValueError(
                f"sampler={option_of('sampler', sampler)} learns from the loss of every sample, and a technique leaves "
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
