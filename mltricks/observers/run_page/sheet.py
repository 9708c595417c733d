"""The test split as an objective's part of a report shows it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.data.info import Info
from mltricks.data.splits import Split


@dataclass(frozen=True)
class TestSheet:
    """What ``mltricks.objectives.base.Sheet`` describes.

    Attributes:
        info: describes the data.
        test: the test split.
    """

    info: Info
    test: Split

    def pictures(self, order: Tensor) -> Tensor | None:
        return self.info.input.pictures(next(self.test.batches([order]))["x"])
