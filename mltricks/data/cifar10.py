"""CIFAR-10: 60,000 photographs of 32x32 pixels in 10 classes, 10,000 of them the test split.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mltricks.data.base import DataOption
from mltricks.data.cache import Decoded
from mltricks.data.published import Published, load_published
from mltricks.data.splits import DataSplits

FOLDER = "cifar-10-batches-py"
FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


@dataclass(frozen=True)
class Cifar10(DataOption):
    """CIFAR-10 with the published test split."""

    resizes = True

    def load(self) -> DataSplits:
        return load_published(self, Published("CIFAR10", FOLDER, FILES, decode_cifar))


def decode_cifar(root: Path, dataset: Any) -> Decoded:
    """Decode images (N, 32, 32, 3) uint8 and classes with torchvision's reader."""
    train, test = dataset(root, train=True), dataset(root, train=False)
    tensors = {
        "x": torch.from_numpy(train.data),
        "y": torch.tensor(train.targets),
        "test_x": torch.from_numpy(test.data),
        "test_y": torch.tensor(test.targets),
    }
    return Decoded(tensors, {"classes": train.classes})
