"""Alternating flip: show every image and its mirror image in turn, from epoch to epoch.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv:2404.00498, section 3.6: half of the
images are mirrored in the first epoch, and every second epoch mirrors the other half. So two epochs in a row show both
versions of every image, where independent flips repeat the same version half of the time.
Deviation: which half comes first is a hash of the image's position and the run's seed, as in the author's second
listing, not a stored permutation. ``x_unlabeled`` has no positions and is flipped at random.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W), uint8 or float, keep shape and type.
Cost: one mirrored copy of the batch and one of the chosen images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.technique import Ctx, Own, Params, Technique
from mltricks.techniques.flip import flip

ODD = 0x9E3779B97F4A7C15 - (1 << 64)
"""The odd constant of SplitMix64 as a signed number; products of int64 wrap around."""


@dataclass(frozen=True)
class AlternatingFlip(Technique):
    """Mirror every image in every second epoch, half of the images in the even ones."""

    on_raw = True
    mirrors = True
    kinds = ("image",)
    needs_one_target = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        return params, {"key": torch.randint(1 << 62, ())}

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        if ctx.steps_per_epoch is None:
            raise ValueError(
                "technique=alternating_flip counts epochs. Give build_step(..., steps_per_epoch=N), the number of "
                "updates an epoch."
            )
        first = coin(batch["index"], ctx.own["key"])
        odd = (ctx.step // ctx.steps_per_epoch) % 2 == 1
        changed = {"x": flip(batch["x"], first ^ odd)}
        if "x_unlabeled" in batch:
            other = batch["x_unlabeled"]
            changed["x_unlabeled"] = flip(other, torch.rand(len(other), device=other.device) < 0.5)
        return {**batch, **changed}


def coin(index: Tensor, key: Tensor) -> Tensor:
    """A fair coin for every sample, the same whenever it is asked: (B,) int64 positions to (B,) bool.

    Source: two rounds of the mixing of SplitMix64 (Steele, Lea, Flood, 2014), of which one bit is taken.
    """
    mixed = index + key
    for shift in (31, 27):
        mixed = mixed * ODD
        mixed = mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))
    return (mixed >> 40) & 1 == 1
