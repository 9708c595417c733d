"""Techniques that change images as bytes from 0 to 255, the only ones that operations on pixels can work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch, as_stored
from mltricks.data.info import Info
from mltricks.technique import Ctx, Technique


@dataclass(frozen=True)
class OnPixels(Technique):
    """The base of these techniques: a subclass defines ``changed``."""

    needs_raw = True
    kinds = ("image",)
    colors: ClassVar[bool] = True
    """Whether it works on grey and RGB images only."""
    white: ClassVar[int] = 255
    """The value of a white pixel in these data, which ``check`` sets."""

    def check(self, info: Info) -> None:
        (check_colors if self.colors else check_bytes)(type(self).__module__.rpartition(".")[2], info)
        object.__setattr__(self, "white", getattr(info.input, "white", 255))

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        return {**batch, **{key: on_pixels(batch[key], self.white, self.changed) for key in INPUTS if key in batch}}

    def changed(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) uint8, contiguous and with white at 255, after the change."""
        raise AssertionError(f"{type(self).__name__} defines no change")


def on_pixels(x: Tensor, white: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change images as bytes whose white is 255, and return them in their own range.

    Args:
        x: images, uint8 (B, C, H, W).
        white: their value of white, 1 to 255.
        change: takes and returns contiguous images.

    Returns:
        The images in the memory layout of the splits.
    """
    if white == 255:
        return as_stored(change(x.contiguous()))
    stretched = (x.contiguous() * (255 / white)).round().to(torch.uint8)
    return as_stored((change(stretched) * (white / 255)).round().to(torch.uint8))


def check_bytes(name: str, info: Info) -> None:
    """Refuse images that are not bytes.

    Args:
        name: of the technique.
        info: describes the data.

    Raises:
        ValueError: the images are floats.
    """
    if getattr(info.input, "mean", None) is None:  # such images are not normalised, so they are no bytes
        raise ValueError(
            f"technique={name} works on pixels of 8 bits, and these images are floats. Give them as uint8, or leave "
            f"{name} out."
        )


def check_colors(name: str, info: Info) -> None:
    """Refuse images that are not bytes, or neither grey nor RGB; arguments as for ``check_bytes``.

    Raises:
        ValueError: the images are floats, or have another number of channels.
    """
    check_bytes(name, info)
    channels = info.in_shape[0]
    if channels not in (1, 3):
        raise ValueError(
            f"technique={name} works on grey images (1 channel) and RGB images (3), and these have {channels}. Leave "
            f"{name} out."
        )
