"""MNIST: 70,000 handwritten digits of 28x28 pixels, 10,000 of them the test split.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE, 1998.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mltricks.data.base import DataOption
from mltricks.data.cache import Decoded
from mltricks.data.published import Published, load_published
from mltricks.data.splits import DataSplits

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Mnist(DataOption):
    """MNIST with the published test split."""

    resizes = True

    def load(self) -> DataSplits:
        return load_published(self, Published("MNIST", "MNIST/raw", FILES, decode_mnist))


def decode_mnist(root: Path, dataset: Any) -> Decoded:
    """Decode images and classes; the class names are the digits."""
    return Decoded(read_idx(root / "MNIST" / "raw"), {"classes": list("0123456789")})


def read_idx(folder: Path) -> dict[str, Tensor]:
    """Images (N, 28, 28, 1) uint8 and classes (N,) int64 of both parts; the files are read compressed."""
    images = [_bytes(folder / name, header=16).view(-1, 28, 28, 1) for name in FILES[::2]]
    labels = [_bytes(folder / name, header=8).long() for name in FILES[1::2]]
    return {"x": images[0], "y": labels[0], "test_x": images[1], "test_y": labels[1]}


def _bytes(path: Path, header: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header).copy())
