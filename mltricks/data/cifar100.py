"""CIFAR-100: 60,000 photographs of 32x32 pixels in 100 classes, 10,000 of them the test split.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.data.base import DataOption
from mltricks.data.cifar10 import decode_cifar
from mltricks.data.published import Published, load_published
from mltricks.data.splits import DataSplits

FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")


@dataclass(frozen=True)
class Cifar100(DataOption):
    """CIFAR-100 with its 100 fine labels and the published test split."""

    resizes = True

    def load(self) -> DataSplits:
        return load_published(self, Published("CIFAR100", FOLDER, FILES, decode_cifar))
