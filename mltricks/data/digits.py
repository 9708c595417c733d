"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships: real data without a download.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mltricks.data.base import DataOption, image_splits
from mltricks.data.partition import stratified
from mltricks.data.splits import DataSplits

NUM_TEST = 360
WHITE = 16
"""The largest value of a pixel."""


@dataclass(frozen=True)
class Digits(DataOption):
    """The digits, with a fixed stratified fifth of the samples as the test split.

    Args:
        classes: the digits to keep, in the order of the outputs; ``None`` for all ten.
    """

    classes: Sequence[int] | None

    resizes = True

    def load(self) -> DataSplits:
        (x, y), test = read_digits()
        if self.classes is not None:
            (x, y), test = (of_classes(*part, self.classes) for part in ((x, y), test))
        names = tuple(map(str, range(10) if self.classes is None else self.classes))
        return image_splits(self, x, y, test, names, white=WHITE)


def of_classes(x: Tensor, y: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The images of some digits, and the positions of their digits in ``classes``.

    Raises:
        ValueError: ``classes`` are not at least two different digits.
    """
    if len(set(classes)) < max(2, len(classes)) or not set(classes) <= set(range(10)):
        raise ValueError(f"data.classes={list(classes)} must be two or more different digits. Type data.classes=[0,1].")
    same = y[:, None] == torch.tensor(classes)
    kept = same.any(1)
    return x[kept], same[kept].long().argmax(1)


def read_digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images (N, 8, 8, 1) uint8 from 0 to 16 and classes (N,) int64, for the training part and the test part."""
    table = torch.from_numpy(_table())
    x, y = table[:, :-1].view(-1, 8, 8, 1), table[:, -1].long()
    test, rest = stratified(y, len(y), NUM_TEST, seed=0)
    return (x[rest], y[rest]), (x[test], y[test])


def _table() -> np.ndarray:
    """(1797, 65) uint8: 64 pixels from 0 to 16, then the class. Read directly: importing sklearn takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ValueError("data=digits needs scikit-learn. Type: pip install scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt") as file:
        return np.array([line.split(",") for line in file.read().split()], dtype=np.float32).astype(np.uint8)
