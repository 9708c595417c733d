"""How difficult every training sample is: numbers in a file, or the losses of another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mltricks.data.source import in_order
from mltricks.data.splits import Split
from mltricks.process.atomic import first_line

BATCH = 512


def scores_in(path: str, count: int) -> Tensor:
    """The numbers in a file, (N,) float64: an array in ``.npy``, or else one number a line.

    Args:
        path: the file.
        count: N, the number of training samples; the numbers are in the order of the training split.

    Raises:
        ValueError: the file cannot be read, or holds another number of values, or one that is not finite.
    """
    import numpy as np

    try:
        found = torch.from_numpy(np.load(path) if path.endswith(".npy") else np.loadtxt(path, ndmin=1)).double()
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"sampler.scores={path} cannot be read: {first_line(error)}. Give a .npy array, or a text file with one "
            "number a line."
        ) from error
    if found.shape != (count,) or not bool(found.isfinite().all()):
        raise ValueError(
            f"sampler.scores={path} holds {tuple(found.shape)} numbers{'' if found.isfinite().all() else ' and NaN'}; "
            f"one finite number for each of the {count} training samples is needed, in their order."
        )
    return found


@torch.no_grad()
def teacher_losses(teacher: str, split: Split, allow_modules: Sequence[str]) -> Tensor:
    """The loss of every training sample by the model of another run, (N,) float32 on the CPU.

    Args:
        teacher: output folder of the run, or its ``best.safetensors``.
        split: the training samples.
        allow_modules: packages that the file may name besides mltricks and torch.

    Raises:
        ValueError: the run's model does not take these samples.
    """
    from mltricks.predictor import load_run

    found, model = [], None
    for batch in in_order(split, BATCH):
        if model is None:
            try:
                model = load_run(Path(teacher), list(allow_modules), str(batch["y"].device))
            except ValueError as error:
                raise ValueError(f"sampler.teacher={teacher}: {error}") from error
        try:
            found.append(model.objective.per_sample(model.forward(batch["x"]), batch["y"]).cpu())
        except (RuntimeError, IndexError) as error:  # a model may raise anything for inputs of another shape
            raise ValueError(
                f"sampler.teacher={teacher} cannot judge these samples: {first_line(error)}. Give a run on such data."
            ) from error
    return torch.cat(found)
