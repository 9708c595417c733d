"""Weights of classes in a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mltricks.data.splits import DataSplits, MemorySplit, Split

ClassWeights = Sequence[float] | Literal["balanced"] | None
KEY = "objective.class_weights"


def check_weights(given: ClassWeights, taken: bool) -> None:
    """Refuse weights that a loss does not take, or that are no weights.

    Raises:
        ValueError: names the value and the allowed ones.
    """
    if given is not None and not taken:
        raise ValueError(f"{KEY} is for objective=classify, bce and focal. Leave it out, or type sampler=balanced.")
    if not isinstance(given, str | None) and not all(math.isfinite(w) and w >= 0 for w in given):
        raise ValueError(f"{KEY}={list(given)} must be numbers >= 0, one for every class, or balanced.")


def weights_of(given: ClassWeights, data: DataSplits, one_against_rest: bool = False) -> Tensor | None:
    """The weights (K,) float32 on the device of the data, ``None`` without.

    Args:
        given: as the setting has them. ``balanced`` is N / (K N_k), so that every class has the same sum of weights and
            the mean weight of the training samples is 1.
        data: of the run.
        one_against_rest: weights count for the samples of the class against all others: ``balanced`` is then
            (N - N_k) / N_k.

    Raises:
        ValueError: the number of weights is not K, or a class has no training sample.
    """
    if given is None:
        return None
    info = data.info
    if isinstance(given, str):
        counts, size = class_counts_of(data.train, info.num_outputs), len(data.train)
        empty = [name for name, count in zip(info.class_names, counts.tolist(), strict=True) if count == 0]
        if empty:
            raise ValueError(f"{KEY}=balanced: class {empty[0]} has no training sample. Give numbers, one for each.")
        weights = (size - counts) / counts if one_against_rest else size / (info.num_outputs * counts)
    else:
        weights = torch.tensor([float(w) for w in given], dtype=torch.float64)
    if len(weights) != info.num_outputs:
        raise ValueError(
            f"{KEY} has {len(weights)} numbers, and there are {info.num_outputs} classes. Give one for each."
        )
    return weights.float().to(data.train.y.device if isinstance(data.train, MemorySplit) else data.train.device)


def class_counts_of(split: Split, num_classes: int) -> Tensor:
    """The number of samples of every class (K,) float64; a sample with several labels counts for each.

    Raises:
        ValueError: the split does not list its classes.
    """
    if split.labels is not None:
        return torch.bincount(split.labels, minlength=num_classes).double()
    if isinstance(split, MemorySplit):
        return split.y.reshape(len(split), -1).cpu().double().sum(0)
    raise ValueError(f"{KEY}=balanced counts the training samples of every class, and these data do not list them.")
