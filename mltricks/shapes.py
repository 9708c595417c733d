"""Sample shapes that change during a run, such as progressive image sizes.

A technique declares the shapes (``Technique.shapes``). Its ``reshape`` converts every batch on the device, between
source and step. The step itself is unaware of this; an engine that traces keeps one trace per shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mltricks.batch import Batch
from mltricks.technique import Shape, Technique, defines


@dataclass(frozen=True)
class Shapes:
    """The shapes that a technique declares.

    Attributes:
        name: of the technique.
        technique: the technique itself.
        full: shape of a sample in the data; batches of this shape are not changed.
        table: pairs (start as a fraction of the run, shape of a sample), ascending, the first from 0.
    """

    name: str
    technique: Technique
    full: Shape
    table: tuple[tuple[float, Shape], ...]

    def at(self, progress: float) -> Shape:
        """The shape of a sample at ``progress``, the fraction of the run completed."""
        return [shape for start, shape in self.table if start <= progress][-1]

    def bring(self, batch: Batch, progress: float) -> Batch:
        """Convert a batch to the shape that applies at ``progress``."""
        shape = self.at(progress)
        return batch if shape == self.full else self.technique.reshape(batch, shape)


def declared(techniques: dict[str, Technique], full: Any) -> Shapes | None:
    """The shapes that one of the techniques declares, or ``None``.

    Args:
        techniques: of the run.
        full: shape of a sample in the data; a dict of shapes for inputs of several parts.

    Raises:
        ValueError: two techniques declare shapes, the starts do not ascend from 0, or ``reshape`` is missing.
    """
    if isinstance(full, dict):  # inputs of several parts have several shapes
        return None
    found = {name: tuple(t.shapes(full)) for name, t in techniques.items() if defines(t, "shapes")}
    found = {name: tuple((float(start), tuple(shape)) for start, shape in table) for name, table in found.items()}
    changing = [name for name, table in found.items() if any(shape != full for _, shape in table)]
    if not changing:
        return None
    if len(changing) > 1:
        raise ValueError(
            f"technique={changing[0]} and technique={changing[1]} both change the shape of samples. Leave one out."
        )
    name, table = changing[0], found[changing[0]]
    starts = [start for start, _ in table]
    if starts[0] != 0 or any(a >= b for a, b in pairwise(starts)) or not defines(techniques[name], "reshape"):
        raise ValueError(
            f"technique={name} declares shapes from {starts} of the run on: the shares must rise from 0, each below 1, "
            "and the technique needs reshape(batch, shape)."
        )
    return Shapes(name, techniques[name], full, table)
