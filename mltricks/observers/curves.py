"""What trackers draw as curves: records of metrics, and norms of layers, by the same names in every tracker."""

from __future__ import annotations

import json
from pathlib import Path

from mltricks.observers.base import Record

NO_METRICS = ("step", "epoch", "split")
NORMS = {"gradient": "gradients", "weight": "weights", "ratio": "update_ratio"}
"""Names of curves by the entries of ``layers.jsonl``."""


def curves(record: Record) -> dict[str, float]:
    """A record as values by name, such as ``train/loss``."""
    return {f"{record['split']}/{name}": v for name, v in record.items() if name not in NO_METRICS and v is not None}


def layer_curves(row: Record) -> dict[str, float]:
    """A line of ``layers.jsonl`` as values by name.

    >>> layer_curves({"step": 1, "epoch": 1, "groups": {"head": {"gradient": 0.5, "weight": 2.0, "ratio": 0.001}}})
    {'gradients/head': 0.5, 'weights/head': 2.0, 'update_ratio/head': 0.001}
    """
    return {f"{NORMS[kind]}/{group}": v for group, norms in row["groups"].items() for kind, v in norms.items()}


class NewLines:
    """Reads the lines that were appended to a JSON-lines file since the last call.

    Args:
        path: of the file, which may not exist yet.
        after_step: rows of steps up to this one are skipped: they were sent before a restart.
    """

    def __init__(self, path: Path, after_step: int):
        self.path, self.position, self.after_step = path, 0, after_step

    def read(self) -> list[Record]:
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self.position)
            whole = file.read().rpartition(b"\n")[0]
        self.position += len(whole) + bool(whole)
        rows = [json.loads(line) for line in whole.splitlines()]
        return [row for row in rows if row["step"] > self.after_step]
