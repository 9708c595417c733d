"""Arrays of floats of any shape, used as they are. Legend: N samples."""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.inputs.base import Input


@dataclass(frozen=True)
class Array(Input):
    """Floats (N, ...), such as sequences of feature vectors; nothing is normalised.

    Args:
        shape: of one sample.
    """

    shape: tuple[int, ...]
