"""Boxes of random size in images: of several candidates the first that fits, without a branch.

Legend: B batch, T candidates.
"""

from __future__ import annotations

from torch import Tensor


def first_fit(fits_BT: Tensor, *values_BT: Tensor) -> tuple[Tensor, ...]:
    """The values of the first candidate that fits, (B,) each; of the first one where none fits.

    Args:
        fits_BT: bool.
        values_BT: of every candidate.

    >>> import torch
    >>> first_fit(torch.tensor([[False, True, True]]), torch.tensor([[7, 8, 9]]))
    (tensor([8]),)
    """
    first = fits_BT.int().argmax(1, keepdim=True)
    return tuple(value.gather(1, first).squeeze(1) for value in values_BT)


def places(length: Tensor, side: int, share: Tensor) -> Tensor:
    """The first position of an interval within ``side`` positions, each of the possible ones alike, (B,) float.

    Args:
        length: of the interval, (B,) whole numbers as floats.
        side: positions.
        share: uniform draws in [0, 1), (B,).
    """
    return (share * (side - length + 1)).floor()
