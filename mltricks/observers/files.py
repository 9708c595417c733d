"""The files of the output folder: ``config.yaml`` and ``metrics.jsonl``."""

from __future__ import annotations

import json
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any

from mltricks.atomic import NotWritten, write_atomically
from mltricks.build import Run
from mltricks.observers.base import Observer, Record
from mltricks.summary import Summary, json_safe


class Files(Observer):
    """Writes the configuration once and a line for every record as it comes."""

    def __init__(self) -> None:
        self.file: FileIO | None = None

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(run.cfg))
        write_atomically(folder / "config.yaml", lambda partial: partial.write_text(text))
        path = folder / "metrics.jsonl"
        before = read_records(path) if resumed_at else []
        kept = [line for line in before if line["step"] <= resumed_at and line["split"] != "test"]  # tested anew
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(path, lambda partial: partial.write_text(lines))
        self.file = FileIO(path, "a")

    def record(self, record: Record) -> None:
        assert self.file is not None, "the run has started"
        append(self.file, json.dumps(json_safe(record)) + "\n")

    def finish(self, summary: Summary) -> None:
        if self.file is not None:
            self.file.close()


def append(file: FileIO, text: str) -> None:
    """Add a line to a file as a whole or, where the disk is full, not at all.

    Raises:
        NotWritten: the file is as it was.
    """
    size, rest = file.seek(0, SEEK_END), text.encode()
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        file.truncate(size)
        raise NotWritten(f"{file.name} cannot be written: {error}") from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``; a last line that was cut short is left out."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
