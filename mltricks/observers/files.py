"""The files of the output folder: ``config.yaml`` and ``metrics.jsonl``."""

from __future__ import annotations

import json
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any

from mltricks.build import Run
from mltricks.observers.base import Observer, Record
from mltricks.process.atomic import NotWritten, write_atomically
from mltricks.summary import Summary, json_safe


class Files(Observer):
    """Writes the configuration at the start, and every record as a line as soon as it comes."""

    def __init__(self) -> None:
        self.file: FileIO | None = None

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        text = yaml_text(run.cfg)
        write_atomically(folder / "config.yaml", lambda partial: partial.write_text(text, encoding="utf-8"))
        path = folder / "metrics.jsonl"
        if resumed_at:
            before = read_records(path)
            kept = [
                line for line in before if line["step"] <= resumed_at and line["split"] != "test"
            ]  # the test is repeated
            lines = "".join(json.dumps(record) + "\n" for record in kept)
            write_atomically(path, lambda partial: partial.write_text(lines))
        self.file = FileIO(path, "a" if resumed_at else "w")

    def record(self, record: Record) -> None:
        assert self.file is not None, "the run has started"
        append(self.file, json.dumps(json_safe(record)) + "\n")

    def finish(self, summary: Summary) -> None:
        if self.file is not None:
            self.file.close()


def yaml_text(cfg: dict[str, Any]) -> str:
    """A configuration as YAML that OmegaConf reads back unchanged; libyaml (C) takes a tenth of the time."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Quotes texts that look like numbers or truth values, as OmegaConf's dumper does; writes no aliases."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(TEXT, text, "'" if misread(text) else ""))
    return str(yaml.dump(cfg, Dumper=Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))


TEXT = "tag:yaml.org,2002:str"


def misread(text: str) -> bool:
    """Whether OmegaConf would read a text without quotes as something else."""
    try:
        float(text)
        return True
    except ValueError:
        return text.lower() in ("y", "yes", "n", "no", "true", "false", "on", "off")


def append(file: FileIO, text: str) -> None:
    """Append a whole line to a file or, if the disk is full, nothing.

    Raises:
        NotWritten: the file is unchanged.
    """
    size, rest = file.seek(0, SEEK_END), text.encode()
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        file.truncate(size)
        raise NotWritten(f"{file.name} cannot be written: {error}") from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``; a truncated last line is skipped."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
