"""The files of the output folder: ``config.yaml`` and ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from mltricks.atomic import write_atomically
from mltricks.build import Run
from mltricks.observers.base import Observer, Record
from mltricks.summary import Summary, json_safe


class Files(Observer):
    """Writes the configuration once and a line for every record as it comes."""

    def __init__(self) -> None:
        self.file: IO[str] | None = None

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(run.cfg))
        write_atomically(folder / "config.yaml", lambda partial: partial.write_text(text))
        path = folder / "metrics.jsonl"
        kept = [line for line in read_records(path) if line["step"] <= resumed_at] if resumed_at else []
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(path, lambda partial: partial.write_text(lines))
        self.file = path.open("a")

    def record(self, record: Record) -> None:
        assert self.file is not None, "the run has started"
        self.file.write(json.dumps(json_safe(record)) + "\n")
        self.file.flush()

    def finish(self, summary: Summary) -> None:
        if self.file is not None:
            self.file.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``; a last line that was cut short is left out."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
