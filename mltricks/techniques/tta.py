"""Test-time augmentation: average the predictions for mirrored, shifted and cropped copies of an image.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section
4.1; with the copies and weights of Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv:2404.00498,
section 3.2: the mirror image has the weight of the image; the two shifts together have the weight of no shift.
The crops are those of ``torchvision.transforms.FiveCrop``, with the mirror images those of ``TenCrop``, all alike.
Deviation: a crop has the aspect of the image and is resized to its size, so that any model can take it; the sources
crop an image that is larger than those of the training, which comes to the same.
Shapes: normalised images (B, C, H, W) -> outputs (B, K).
Cost: none in training; 2 (flip), 3 (shift), 6 (both), 5 (crop) or 10 (crop and flip) forward passes in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Size
from mltricks.technique import Ctx, Own, Params, PredFn, Technique


@dataclass(frozen=True)
class Tta(Technique):
    """The weighted mean of the outputs for several copies of the input.

    Args:
        flip: add the mirror image.
        shift: pixels by which two more copies are moved, one up and left, one down and right; 0 for none.
        crop: shorter side in pixels of five crops that take the place of the image, the corners and the centre;
            ``None`` for none.
        average: whether to average ``logits`` or ``probabilities``.
    """

    flip: bool
    shift: Size
    crop: Count | None
    average: Literal["logits", "probabilities"]

    kinds = ("image",)
    needs_one_target = True
    needs_one_output = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        shorter = min(batch["x"].shape[2:])
        if not self.flip and not self.shift and self.crop is None:
            raise ValueError(
                "technique.tta.flip=false and technique.tta.shift=0 change nothing. "
                "Type technique.tta.flip=true or technique.tta.shift=1, or leave tta out."
            )
        if self.crop is not None and (self.crop >= shorter or self.shift):
            other = f" and technique.tta.shift={self.shift}" if self.shift else ""
            raise ValueError(
                f"technique.tta.crop={self.crop}{other}: crops are smaller than the image of {shorter} pixels and take "
                f"the place of shifts. Type technique.tta.crop={max(1, shorter * 7 // 8)} technique.tta.shift=0."
            )
        if self.shift >= shorter:
            raise ValueError(
                f"technique.tta.shift={self.shift} moves images of {shorter} pixels out of view. "
                f"Allowed: 0 <= value < {shorter}; for instance technique.tta.shift=1."
            )
        if self.average == "probabilities" and batch["y"].is_floating_point():
            raise ValueError(
                "technique.tta.average=probabilities is for classes, and these targets are values. Type logits."
            )
        return params, {}

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            outputs = [
                (weight, inner(params, copy, ctx)) for weight, copy in copies(x, self.flip, self.shift, self.crop)
            ]
            if self.average == "logits":
                return sum_of([weight * output for weight, output in outputs])
            mean = sum_of([weight * output.softmax(-1) for weight, output in outputs])
            return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()

        return predict


def copies(x: Tensor, flip: bool, shift: int, crop: int | None = None) -> Iterator[tuple[float, Tensor]]:
    """Yield the copies of a batch of images, each with its weight; the weights sum to 1."""
    moved = [(1.0, x)] if crop is None else [(0.2, part) for part in five_crops(x, crop)]
    if shift:
        padded, (height, width) = F.pad(x, [shift] * 4, mode="reflect"), x.shape[2:]
        crops = [padded[:, :, i : i + height, j : j + width] for i, j in ((0, 0), (2 * shift, 2 * shift))]
        moved = [(0.5, x), *((0.25, crop) for crop in crops)]
    for weight, copy in moved:
        if flip:
            yield weight / 2, copy
            yield weight / 2, copy.flip(3)
        else:
            yield weight, copy


def five_crops(x: Tensor, side: int) -> list[Tensor]:
    """The four corners and the centre of images (B, C, H, W), each resized to H x W.

    Args:
        x: images.
        side: shorter side of the crops, in pixels, at most that of the images; the other follows their aspect.
    """
    height, width = x.shape[2:]
    rows, columns = (round(side * length / min(height, width)) for length in (height, width))
    down, right = height - rows, width - columns
    corners = [(0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))]
    crops = [x[:, :, i : i + rows, j : j + columns] for i, j in corners]
    return [F.interpolate(crop, (height, width), mode="bilinear", align_corners=False) for crop in crops]


def sum_of(tensors: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(tensors).sum(0)
