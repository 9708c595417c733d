"""What a technique that reconstructs its inputs shows to a reader of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from mltricks.technique import Ctx, Params


@dataclass(frozen=True)
class Reconstruction:
    """Samples as they are, as the model saw them, and as it reconstructs them.

    Attributes:
        steps: by name, in this order, tensors of the shape of the inputs, (B, ...).
        error: of the reconstruction, 0-d; lower is better.
        trivial: the same error of a reconstruction that takes no learning, 0-d.
        words: which error it is.
        trivial_words: which reconstruction that is.
        note: a sentence on what the pictures show besides; empty if nothing.
    """

    steps: dict[str, Tensor]
    error: Tensor
    trivial: Tensor
    words: str
    trivial_words: str
    note: str = ""


@runtime_checkable
class Reconstructs(Protocol):
    """A technique that shows reconstructions; nothing in a step calls it."""

    def reconstruct(self, params: Params, x: Tensor, ctx: Ctx) -> Reconstruction:
        """Corrupt normalised inputs with new draws, and reconstruct them in evaluation mode, without gradients."""
        ...
