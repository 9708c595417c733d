"""Batches whose samples change their shape in the course of a run, by a small declared set of shapes.

A technique declares them (``Technique.shapes``); between source and step, on the device, its ``reshape`` brings every
batch to the one that is due. The step itself knows nothing of it: an engine that records keeps one recording a shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mltricks.batch import Batch
from mltricks.technique import Shape, Technique, defines


@dataclass(frozen=True)
class Shapes:
    """What a technique declares.

    Attributes:
        name: of the technique.
        technique: it.
        full: shape of a sample as the data have it; such batches pass as they are.
        table: pairs (share of the run from which on, shape of a sample), rising, the first from 0.
    """

    name: str
    technique: Technique
    full: Shape
    table: tuple[tuple[float, Shape], ...]

    def at(self, progress: float) -> Shape:
        """The shape of a sample when ``progress`` of the run is done."""
        return [shape for start, shape in self.table if start <= progress][-1]

    def bring(self, batch: Batch, progress: float) -> Batch:
        """A batch in the shape that is due."""
        shape = self.at(progress)
        return batch if shape == self.full else self.technique.reshape(batch, shape)


def declared(techniques: dict[str, Technique], full: Any) -> Shapes | None:
    """The shapes that one of the techniques declares; ``None`` where none does.

    Args:
        techniques: of the run.
        full: shape of a sample as the data have it; a dict of shapes where it has several parts.

    Raises:
        ValueError: two techniques do, or the shares do not rise from 0, or ``reshape`` is not defined.
    """
    if isinstance(full, dict):  # an input of several parts has no one shape
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
