"""Fashion-MNIST: 70,000 pictures of clothing of 28x28 pixels, in the files and sizes of MNIST.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
2017, arXiv:1708.07747.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltricks.data.base import DataOption
from mltricks.data.cache import Decoded
from mltricks.data.mnist import FILES, read_idx
from mltricks.data.published import Published, load_published
from mltricks.data.splits import DataSplits


@dataclass(frozen=True)
class FashionMnist(DataOption):
    """Fashion-MNIST with the published test split."""

    resizes = True

    def load(self) -> DataSplits:
        return load_published(self, Published("FashionMNIST", "FashionMNIST/raw", FILES, decode_fashion))


def decode_fashion(root: Path, dataset: Any) -> Decoded:
    """Decode images and classes; the class names are torchvision's."""
    return Decoded(read_idx(root / "FashionMNIST" / "raw"), {"classes": list(dataset.classes)})
