"""Where a layer is: coordinates for convolutions, and encodings of positions for transformers.

Sources: Liu et al., "An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution", 2018,
arXiv:1807.03247; Vaswani et al. 2017, arXiv:1706.03762, section 3.5; in two dimensions as in Chen, Xie, He 2021,
arXiv:2104.02057 (half of the features for each axis).
Legend: B batch, C channels, H height, W width, L length, D features.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Positions = Literal["learned", "sinusoidal", "none"]
LONGEST_WAVE = 10_000.0
"""The longest wavelength of a sinusoidal encoding is this times 2 pi positions."""


class CoordConv2d(nn.Conv2d):
    """A convolution that also reads the row and the column of every pixel, each from -1 to 1.

    Shapes: (B, C, H, W) -> as ``nn.Conv2d``.

    Args:
        in_channels: C, without the coordinates.
        settings: of ``nn.Conv2d``.
    """

    def __init__(self, in_channels: int, *settings: Any, **more: Any):
        super().__init__(in_channels + 2, *settings, **more)

    def forward(self, input: Tensor) -> Tensor:
        batch, _, height, width = input.shape
        rows, columns = (torch.linspace(-1, 1, n, dtype=input.dtype, device=input.device) for n in (height, width))
        places = torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])
        return super().forward(torch.cat([input, places.expand(batch, 2, height, width)], 1))


def sinusoidal(length: int, features: int) -> Tensor:
    """Sines and cosines of geometrically spaced wavelengths: (L, D) float32, with D even.

    Feature 2 i is sin(p / 10000^(2 i / D)) at position p, and feature 2 i + 1 the cosine.

    >>> sinusoidal(2, 2)
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])
    """
    angles = torch.arange(length)[:, None] / LONGEST_WAVE ** (torch.arange(0, features, 2) / features)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)


def sinusoidal_2d(height: int, width: int, features: int) -> Tensor:
    """(H W, D) float32, with D a multiple of 4: half of the features encode the row, half the column."""
    rows, columns = sinusoidal(height, features // 2), sinusoidal(width, features // 2)
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], 1)


def add_positions(model: nn.Module, kind: Positions, length: int, features: int, heads: int) -> None:
    """Give a model of tokens what ``with_positions`` adds: an embedding, a buffer, or nothing.

    Args:
        model: of tokens.
        kind: of positions.
        length: L, of the longest sequence.
        features: D, a multiple of ``heads``.
        heads: of attention.

    Raises:
        ValueError: a sinusoidal encoding of an odd number of features.
    """
    if kind == "learned":
        model.position_embedding = nn.Embedding(length, features)
    if kind == "sinusoidal":
        if features % 2:
            fix = features + heads  # both are odd
            raise ValueError(f"model.positions=sinusoidal needs an even model.width. Type model.width={fix}.")
        model.register_buffer("positions", sinusoidal(length, features))


def with_positions(model: nn.Module, x_BLD: Tensor) -> Tensor:
    """The tokens, with the encodings of their positions added."""
    length = x_BLD.shape[1]
    embedding = getattr(model, "position_embedding", None)
    if embedding is not None:
        return x_BLD + embedding(torch.arange(length, device=x_BLD.device))
    return x_BLD + model.get_buffer("positions")[:length] if hasattr(model, "positions") else x_BLD
