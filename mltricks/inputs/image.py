"""Images. Legend: N samples, C channels, H height, W width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.batch import as_stored
from mltricks.inputs.base import Dtypes, Input, as_batch
from mltricks.inputs.image_files import find_images, from_images, is_images, read_image
from mltricks.inputs.resizing import resized


@dataclass(frozen=True)
class Image(Input):
    """Images in raw units (uint8), standardised channel by channel.

    Args:
        shape: (C, H, W).
        mean, std: training statistics in raw units, (C, 1, 1); ``None``: the images are used as they are.
        white: value of a white pixel, which operations on 8-bit values need to know.
        original: (C, H, W) of the data before they were resized; ``None`` if they were not. A user's inputs come in
            this shape, or in that of the data.
    """

    shape: tuple[int, ...]
    mean: Tensor | None = None
    std: Tensor | None = None
    white: int = 255
    original: tuple[int, ...] | None = None

    suits: ClassVar[str] = "resnet9"

    def normalize(self, x: Tensor) -> Tensor:
        """Standardise raw images to zero mean and unit variance; float images are normalised already and pass."""
        if self.mean is None or self.std is None or x.is_floating_point():
            return x
        mean, scale = self.rows if x.shape[-1] == self.shape[-1] else self.rows_of(x.shape[-1])
        return x.float().sub_(mean).mul_(scale)  # in place: allocating costs more than the arithmetic

    def denormalize(self, x: Tensor) -> Tensor:
        """The inverse of ``normalize`` within the range of pixels."""
        if self.mean is None or self.std is None or not x.is_floating_point():
            return x
        return (x * self.std + self.mean).clamp(0, 255)

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Mean and reciprocal standard deviation as rows of the usual width; cached, because every step needs them."""
        return self.rows_of(self.shape[-1])

    def rows_of(self, width: int) -> tuple[Tensor, Tensor]:
        assert self.mean is not None, "images have statistics"
        assert self.std is not None, "images have statistics"
        return as_row(self.mean, width), as_row(1.0 / self.std, width)

    def laid_out(self, x: Tensor) -> Tensor:
        return as_stored(x)

    def prepare(self, x: Any, dtype: Dtypes) -> Tensor:
        """Convert PIL images, resized, or arrays with the channels first or last to (N, C, H, W)."""
        x = from_images(x, self.original or self.shape) if is_images(x) else x
        shapes = dict.fromkeys(shape for shape in (self.shape, self.original) if shape is not None)
        x = as_batch(x, [form for shape in shapes for form in forms(shape)], self.shape)
        lasts = [(height, width, channels) for channels, height, width in shapes]
        x = self.checked(x.permute(0, 3, 1, 2) if tuple(x.shape[1:]) in lasts else x, dtype)
        if self.original is not None and tuple(x.shape[1:]) != self.shape:
            x = resized(x.permute(0, 2, 3, 1), *self.shape[1:]).permute(0, 3, 1, 2)
        return self.laid_out(x)

    def checked(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if len(x) and not dtype.is_floating_point and x.is_floating_point():
            raise ValueError(
                f"inputs are {x.dtype}; this model takes raw {dtype} values, as the run's data gave them. "
                "Images are whole numbers of 0 to 255, not scaled."
            )
        whole = not (x.is_floating_point() or x.is_complex())
        if len(x) and whole and dtype == torch.uint8 and x.dtype != dtype:
            low, high = int(x.long().min()), int(x.long().max())
            if low < 0 or high > 255:
                raise ValueError(f"inputs go from {low} to {high}; images are whole numbers of 0 to 255.")
        return super().checked(x, dtype)

    def read(self, path: Path, size: int, dtype: Dtypes) -> Iterator[tuple[list[Any], Tensor]]:
        """Read one image file, all image files below a folder in order, or an array."""
        if path.suffix == ".npy":
            yield from super().read(path, size, dtype)
            return
        files = find_images(path)
        for start in range(0, len(files), size):
            chunk = files[start : start + size]
            images = torch.cat([read_image(file, self.original or self.shape) for file in chunk])
            yield [str(file) for file in chunk], self.prepare(images, dtype)

    def pictures(self, x: Tensor) -> Tensor:
        """Scale images (N, C, H, W) of any range to (N, H, W, 3) uint8, with one range for all of them."""
        x = x.cpu().float()
        low = x.amin() if x.amin() < 0 else torch.zeros(())
        x = (x - low) / (x.amax() - low).clamp_min(1e-12) * 255
        x = x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return x.round().to(torch.uint8).permute(0, 2, 3, 1)


def forms(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes in which images (C, H, W) may be given: channels last or first, or left out if there is one."""
    channels, height, width = shape
    return [(height, width, channels), shape, *([(height, width)] if channels == 1 else [])]


def as_row(v: Tensor, width: int) -> Tensor:
    """(C, 1, 1) to (C, 1, width) in channels-last storage.

    With channels-last images the arithmetic then runs along whole rows. With (C, 1, 1) the inner loop would cover only
    the C channels of one pixel, which takes ten times as long on a CPU.
    """
    return v if v.shape[-1] == width else v.permute(1, 2, 0).repeat(1, width, 1).permute(2, 0, 1)
