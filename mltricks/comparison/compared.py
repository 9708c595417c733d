"""Everything that the console and the page show of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mltricks.comparison.entry import Entry, read_entries
from mltricks.comparison.grouping import Configuration, Difference, configurations, differences, labels
from mltricks.comparison.same_data import other_data
from mltricks.comparison.scores import best, metric_of
from mltricks.comparison.warnings import warnings


@dataclass(frozen=True)
class Compared:
    """A comparison.

    Attributes:
        configurations: runs that differ only in seeds are one.
        differences: the settings in which the configurations differ.
        names: a label for each configuration.
        metric: the score by which the runs are compared.
        maximize: whether higher is better.
        best: the configuration with the best validation score; ``None`` if it is not known.
        warnings: reasons to be careful.
    """

    configurations: list[Configuration]
    differences: list[Difference]
    names: list[str]
    metric: str
    maximize: bool
    best: int | None
    warnings: list[str]

    @property
    def entries(self) -> list[Entry]:
        """All runs."""
        return [entry for one in self.configurations for entry in one.entries]


def compared(folders: Sequence[Path]) -> Compared:
    """Compare the runs in these folders.

    Raises:
        ValueError: the record of one is damaged.
    """
    found = configurations(read_entries(folders))
    different = differences(found)
    names = labels(found, different)
    metric, maximize = metric_of(found)
    data = other_data(found, different)
    top = None if data else best(found, metric, maximize)
    return Compared(found, different, names, metric, maximize, top, [*data, *warnings(found, names, top)])
