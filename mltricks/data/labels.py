"""Targets that are sets of labels: vectors (K,) with a yes or no for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_set(y: Tensor, ndim: int) -> bool:
    """Whether targets of ``ndim`` axes besides K >= 2 hold sets of labels: bool, or integers 0 and 1."""
    if y.ndim != ndim + 1 or y.shape[-1] < 2 or y.is_floating_point() or y.is_complex():
        return False
    return y.dtype == torch.bool or bool(((y == 0) | (y == 1)).all())


def label_names(names: Sequence[str], num_labels: int) -> tuple[str, ...]:
    """The names of the labels, or their numbers.

    Raises:
        ValueError: there are more or fewer names than labels.
    """
    if names and len(names) != num_labels:
        raise ValueError(
            f"targets are sets of {num_labels} labels, and `classes` has {len(names)} names. Give one for each."
        )
    return tuple(names) or tuple(str(k) for k in range(num_labels))
