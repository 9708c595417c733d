"""A reader of ``run-*.wandb`` files: protobuf records in blocks of 32 KiB, in the log format of LevelDB.

Source: https://github.com/google/leveldb/blob/main/doc/log_format.md; wandb puts 7 bytes in front, ``:W&B``, magic and
version.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def payloads(data: bytes) -> Iterator[bytes]:
    """The bytes of each record. A record consists of pieces within a block; each begins with checksum (4 bytes), length
    (2) and kind (1)."""
    assert data[:4] == b":W&B", "this is not a file of wandb"
    at, parts = HEADER, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if at + HEADER + length > len(data):
            return  # the file is still being written
        parts.append(data[at + HEADER : at + HEADER + length])
        at += HEADER + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


@dataclass
class Logged:
    """Everything that a run logged."""

    run: Any = None
    folder: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    num_stats: int = 0

    def file(self, logged: dict[str, Any]) -> Path:
        """The file of a logged figure, picture or table."""
        assert self.folder is not None, "the run was read"
        return self.folder / "files" / logged["path"]

    def artifact(self, kind: str) -> Any:
        """The only artifact of a type."""
        (found,) = [artifact for artifact in self.artifacts if artifact.type == kind]
        return found


def read_wandb(folder: Path) -> Logged:
    """Read the newest offline run below an output folder, once it is complete.

    wandb's service writes the last records after it has reported to the process that it is done, so wait for them.
    """
    deadline = time.monotonic() + 20
    while (logged := read_as_it_is(folder)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert logged.exit_code is not None, f"the run in {folder} is not complete"
    return logged


def read_as_it_is(folder: Path) -> Logged:
    """Read the newest offline run below an output folder, as far as it is written."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    if not found:
        return Logged()
    path = found[-1]
    logged = Logged(folder=path.parent)
    for payload in payloads(path.read_bytes()):
        record = Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            logged.run = record.run
            logged.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            logged.history.append({"_step": record.history.step.num, **row})
        elif kind == "summary":
            logged.summary |= {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
        elif kind == "metric":
            logged.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "artifact":
            logged.artifacts.append(record.artifact)
        elif kind == "stats":
            logged.num_stats += 1
        elif kind == "exit":
            logged.exit_code = record.exit.exit_code
    return logged
