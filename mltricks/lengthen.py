"""Whether a run may train longer than it was to: where no step so far depends on the length of the run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.state import map_state
from mltricks.summary import read_summary

LENGTH = ("epochs", "max_steps")
"""Keys that may grow on resume, to train longer, if no past step depends on the length of the run."""


def check_larger(typed: str, mine: int | None, theirs: int | None, folder: Path) -> None:
    """Refuse to shorten a run, or to lengthen one that ended before its last step.

    Raises:
        ValueError: says why.
    """
    if mine is not None and (theirs is None or mine < theirs):
        raise ValueError(
            f"{typed} cannot be given with resume={folder}: it was {theirs} there. "
            "A run can be made longer, not shorter."
        )
    summary = read_summary(folder / "summary.json")
    if summary is not None and summary.status in ("stopped_early", "pruned"):
        raise ValueError(
            f"{typed} cannot be given with resume={folder}: the run {summary.status.replace('_', ' ')} and would "
            "do so again. Start a new run with other settings."
        )


def check_same_steps(run: Any, saved: dict[str, Any], step: int) -> None:
    """Refuse to train longer if past steps would have been different in a longer run.

    Args:
        run: a ``Run``, built with the new length.
        saved: the configuration of the past steps.
        step: updates made.

    Raises:
        ValueError: names the part that depends on the length of the run, or the setting that has no effect.
    """
    wanted = {key: run.cfg[key] for key in LENGTH if run.cfg[key] != saved[key]}
    before = min(saved["epochs"] * run.source.steps_per_epoch, saved["max_steps"] or sys.maxsize)
    if before == run.total_steps:
        if wanted:
            typed = " ".join(f"{key}={value}" for key, value in wanted.items())
            bound = "max_steps" if "epochs" in wanted else "epochs"
            raise ValueError(f"{typed} has no effect: {bound}={run.cfg[bound]} ends the run after {before} steps.")
        return
    if (culprit := depends_on_length(run, before, step)) is not None:
        raise ValueError(
            f"the run cannot be made longer, {before} to {run.total_steps} steps: {culprit}, so the steps so far "
            "would have been different. Start a new run of that length; scheduler=constant always allows a longer one."
        )


def depends_on_length(run: Any, before: int, step: int) -> str | None:
    """The first part of a run whose past steps would have been different in a longer run, in words."""
    old = replace(run.hypers, total_steps=before)
    for i in range(step):
        then = old.values(i)
        for path, value in run.hypers.values(i).items():
            if then[path] != value:
                return f"{'.'.join(path)} is scheduled"
    if run.shapes is not None:
        return "samples change their shape with the progress"
    if {"progress", "progress_after"} & set(run.source.asked):
        return "the sampler depends on the progress"
    if uses_progress(run):
        return "a technique or the objective depends on the progress"
    off_schedule = before % (run.source.steps_per_epoch * run.cfg["eval_every_epochs"]) != 0
    counting = {"early stopping": run.cfg["early_stopping"]["patience"], "a plateau schedule": run.hypers.following}
    for name, counts in counting.items():
        if off_schedule and counts:
            return f"{name} has counted the validation at its end, which a longer run would not have made"
    return None


class Watched(Tensor):
    """A tensor that notes when anything is computed with it."""

    used = False

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Watched.used = True
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def uses_progress(run: Any) -> bool:
    """Whether the step computes with the progress: it is made once, and its result dropped.

    What a technique, its helpers or an objective of a user's own do cannot be read off their code with certainty.
    """
    from mltricks.build import pure_step

    progress = torch.tensor(0.5, device=run.device).as_subclass(Watched)
    Watched.used = False
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        state = map_state(torch.clone, run.state)
        pure_step(run, run.data.info.normalize)(state, next(run.batches(0)), {**run.hypers.at(0), "progress": progress})
    return Watched.used
