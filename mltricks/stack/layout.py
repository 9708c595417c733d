"""Memory layouts: keep each row's strides, as strides decide where random numbers land and how sums round."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stack_rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack tensors of one shape to (K, ...); every row has the strides of the first tensor."""
    first = rows[0]
    if not _fills_its_memory(first):
        return torch.stack(list(rows))
    strides = (first.numel(), *first.stride())
    stacked = torch.empty_strided((len(rows), *first.shape), strides, dtype=first.dtype, device=first.device)
    return torch.stack(list(rows), out=stacked)


def in_layout(t: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the tensor with these strides; a view if strides differ only at axes of length 1, else a copy."""
    if t.stride() == tuple(strides):
        return t
    if all(size == 1 or a == b for size, a, b in zip(t.shape, t.stride(), strides, strict=True)):
        return t.as_strided(t.shape, strides)
    return torch.empty_strided(t.shape, strides, dtype=t.dtype, device=t.device).copy_(t)


def split_rows(t: Tensor, num: int) -> Tensor:
    """Reshape (K B, ...) to (K, B, ...); other axes keep their strides, which a view loses at axes of length 1."""
    split = t.unflatten(0, (num, -1))
    return in_layout(split, (*split.stride()[:2], *t.stride()[1:]))


def merge_rows(t: Tensor) -> Tensor:
    """Reshape (K, B, ...) to (K B, ...), the inverse of ``split_rows``."""
    merged = t.flatten(0, 1)
    return in_layout(merged, (merged.stride(0), *t.stride()[2:]))


def _fills_its_memory(t: Tensor) -> bool:
    """Whether the strides cover one block of memory without gaps or overlaps."""
    filled = 1
    for stride, size in sorted(zip(t.stride(), t.shape, strict=True)):
        if size != 1 and stride != filled:
            return False
        filled *= size
    return t.numel() > 0
