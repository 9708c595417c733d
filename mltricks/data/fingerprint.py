"""Recognise the data of a run: a resumed run on other data would continue in the middle of another epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mltricks.data.info import Info
from mltricks.inputs.base import saved
from mltricks.state import named_leaves

SAMPLED = 256
"""Samples of a split in memory that are compared, evenly spaced; all labels are."""


def fingerprint(parts: dict[str, Any], info: Info) -> dict[str, Any]:
    """What a checkpoint keeps of the data, as tensors: numbers of samples, statistics, labels, and some samples.

    Args:
        parts: the splits by name.
        info: describes the data.
    """
    return {
        "samples": {name: torch.tensor(len(part)) for name, part in parts.items()},
        "statistics": saved(info.input)[1],
        "classes": hashed("\n".join(info.classes).encode()),
        "content": {name: content(part) for name, part in parts.items()},
    }


def content(split: Any) -> dict[str, Tensor]:
    """A summary of a split's labels and, if it is in memory, of some of its samples."""
    found = {} if split.labels is None else {"labels": summary([split.labels])}
    if getattr(split, "in_memory", False) and len(split):
        positions = torch.linspace(0, len(split) - 1, min(len(split), SAMPLED)).long()
        batch = next(split.batches([positions]))
        found |= {name: summary([value]) for name, value in named_leaves({k: batch[k] for k in ("x", "y")})}
    return found


def summary(tensors: Iterable[Tensor]) -> Tensor:
    """A hash of integers, (8,) uint8, or a weighted mean of floats, 0-d float64: their rounding may differ."""
    value = torch.cat([t.detach().cpu().flatten() for t in tensors])
    if value.is_floating_point():
        return (value.double() * torch.linspace(1, 2, len(value), dtype=torch.float64)).mean()
    return hashed(value.contiguous().view(torch.uint8).numpy().tobytes())


def hashed(content: bytes) -> Tensor:
    return torch.tensor(list(hashlib.blake2b(content, digest_size=8).digest()), dtype=torch.uint8)


def check_same(found: dict[str, Any], kept: dict[str, Any], what: str) -> None:
    """Compare the fingerprint of the data found with the one that a checkpoint keeps.

    Args:
        found, kept: the fingerprints.
        what: begins the message, such as ``resume=DIR``.

    Raises:
        ValueError: they differ.
    """
    name = first_difference(found, kept)
    if name is None:
        return
    way = "Restore the data, or start a new run."
    if name.startswith("samples."):
        split = name.removeprefix("samples.")
        a, b = (dict(named_leaves(data)).get(name) for data in (found, kept))
        raise ValueError(f"{what}: the data have changed: {a} {split} samples, and {b} when the run began. {way}")
    raise ValueError(f"{what}: the data have changed since the run began ({name}). {way}")


def first_difference(found: dict[str, Any], kept: dict[str, Any]) -> str | None:
    """The first entry in which two fingerprints differ, such as ``content.val.labels``; ``None`` if none does."""
    mine, theirs = dict(named_leaves(found)), dict(named_leaves(kept))
    for name in {**mine, **theirs}:
        a, b = mine.get(name), theirs.get(name)
        if a is None or b is None or a.shape != b.shape or not torch.allclose(a, b, rtol=1e-4, equal_nan=True):
            return name
    return None
