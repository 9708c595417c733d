"""Pairs of the digits of ``data=digits``: whether both show the same digit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.data.base import DataOption, pixel_statistics, pixel_sums
from mltricks.data.digits import read_digits
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.image import Image
from mltricks.inputs.pair import Pair


@dataclass(frozen=True)
class DigitPairs(DataOption):
    """Every digit with another one, half of the pairs of the same digit; both are of the same split."""

    def load(self) -> DataSplits:
        (x, y), test = read_digits()
        train, val, aside = self.divide(y, len(y))
        rest = torch.cat([train, aside])
        kind = Pair(*(Image((1, 8, 8), *pixel_statistics(pixel_sums(x[rest]), 64)) for _ in range(2)))
        info = Info(kind, "similarity", 2, ("different", "similar"))
        parts = [(x[train], y[train]), (x[val], y[val]), test]
        chosen = rest if self.unlabeled_from == "all" else aside
        unlabeled = pairs(x[chosen], y[chosen], self.split_seed) if self.unlabeled_ratio else None
        train_split, val_split, test_split = (pairs(*part, self.split_seed) for part in parts)
        return DataSplits(train_split, val_split, test_split, info, unlabeled)


def pairs(x: Tensor, y: Tensor, seed: int) -> MemorySplit:
    """Sample i of images (N, 8, 8, 1) with a random partner: of the same class if i is odd, else of another one."""
    generator = torch.Generator().manual_seed(seed)
    similar = torch.arange(len(y)) % 2
    fits = (y[:, None] == y[None, :]) == (similar[:, None] == 1)
    fits.fill_diagonal_(False)
    # a class of one sample has no other of its own
    fits = torch.where(fits.any(1, keepdim=True), fits, y[:, None] != y[None, :])
    draws = torch.rand(fits.shape, generator=generator)
    partner = torch.where(fits, draws, -1.0).argmax(1)
    return MemorySplit({"left": x, "right": x[partner]}, (y == y[partner]).long(), image=True)
