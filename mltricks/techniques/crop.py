"""Pad and crop: shift every image by a few random pixels.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section
4.1; with 4 pixels of padding on CIFAR: He, Zhang, Ren, Sun, 2016, arXiv:1512.03385, section 4.2. The same result as
``torchvision.transforms.RandomCrop(size, padding)``.
Deviation: ``fill: reflect`` pads with the mirrored image, as cifar10-fast does; the sources pad with zeros.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W), uint8 or float, keep shape and type.
Cost: one copy of the padded images and one of the crops. Legend: p padding, P padded width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import Size
from mltricks.technique import Ctx, Own, Params, Technique


@dataclass(frozen=True)
class Crop(Technique):
    """Pad every side by ``padding`` pixels and cut out a window of the old size.

    Args:
        padding: pixels, >= 0: the largest shift in each direction; ``None`` for an eighth of the shorter side.
        fill: ``reflect``: the image mirrored at its border pixels; ``zero``: zeros, which are black before
            normalisation and the mean colour after it.
    """

    padding: Size | None
    fill: Literal["reflect", "zero"]

    on_raw = True
    kinds = ("image",)
    needs_one_target = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        side = min(batch["x"].shape[2:])
        if self.padding is not None and self.padding >= side:
            raise ValueError(
                f"technique.crop.padding={self.padding} is no smaller than the image, whose shorter side has {side} "
                f"pixels. Type technique.crop.padding={max(1, side // 8)}."
            )
        return params, {}

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        if self.padding == 0:
            return batch
        return {**batch, **{key: self._shifted(batch[key]) for key in INPUTS if key in batch}}

    def _shifted(self, x: Tensor) -> Tensor:
        padding = min(x.shape[2:]) // 8 if self.padding is None else self.padding
        top, left = torch.randint(0, 2 * padding + 1, (2, len(x)), device=x.device)
        return crop(x, top, left, padding, self.fill)


def crop(x: Tensor, top: Tensor, left: Tensor, padding: int, fill: str) -> Tensor:
    """Cut a window of H x W pixels out of every padded image.

    In channels-last storage a window is H rows, each a contiguous block of W x C numbers, so whole rows are gathered.

    Args:
        x: images (B, C, H, W).
        top, left: (B,) int64 in [0, 2 * padding]: the window's corner; ``padding`` is the unshifted image.
        padding: pixels added on every side, less than H and W.
        fill: ``reflect`` or ``zero``.

    Returns:
        (B, C, H, W) in channels-last storage, with the dtype of ``x``.
    """
    images, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1)
    if fill == "reflect":
        rows = torch.arange(-padding, height + padding, device=x.device).abs()
        rows = (height - 1) - ((height - 1) - rows).abs()
        padded = mirrored(pixels, padding).index_select(1, rows)
    else:
        padded = F.pad(pixels, (0, 0, padding, padding, padding, padding))
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    first = torch.arange(images, device=x.device) * padded_height + top
    starts = (first[:, None] + torch.arange(height, device=x.device)) * padded_width + left[:, None]
    windows = padded.flatten().unfold(0, width * channels, channels)  # views: one row of W pixels from every pixel
    return windows.index_select(0, starts.flatten()).view(images, height, width, channels).permute(0, 3, 1, 2)


def mirrored(pixels: Tensor, padding: int) -> Tensor:
    """(B, H, W, C) to (B, H, W + 2 padding, C), mirrored at the first and last columns."""
    width = pixels.shape[2]
    left = [pixels[:, :, i : i + 1] for i in range(padding, 0, -1)]
    right = [pixels[:, :, width - 1 - i : width - i] for i in range(1, padding + 1)]
    return torch.cat([*left, pixels, *right], 2)
