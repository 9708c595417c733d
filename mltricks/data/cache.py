"""A cache file of decoded data: the next start maps it into memory instead of decoding again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mltricks.process.atomic import write_atomically

FORMAT = 1
"""Version of the file format; raise it when the content changes its meaning."""
FOLDER = ".mltricks"
"""Folder of the cache files, below ``data.root``."""


@dataclass
class Decoded:
    """The content of a cache file: tensors, and ``about``, any JSON value."""

    tensors: dict[str, Tensor]
    about: dict[str, Any] = field(default_factory=dict)


def cached(root: str, name: str, key: dict[str, Any], make: Callable[[], Decoded]) -> Decoded:
    """The result of ``make``, read from the cache if it was stored under the same key.

    Args:
        root: ``data.root``.
        name: of the cache file, without a suffix.
        key: everything the result depends on, as JSON values: sizes and times of the source files, settings.
        make: decodes the sources.

    Returns:
        Tensors mapped from the file if it exists. If the root is not writable, there is no cache and the run goes on.
    """
    path = Path(root) / FOLDER / f"{name}.safetensors"
    wanted = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    found = _read(path, wanted)
    if found is not None:
        return found
    made = make()
    _write(path, wanted, made)
    return made


def stamp(path: Path) -> list[int]:
    """Size in bytes and modification time in ns, to detect that a file has changed."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(path: Path, wanted: str) -> Decoded | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != wanted:
                return None
            return Decoded({name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["about"]))  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        print(f"note: the cache {path} is damaged ({error}) and is rebuilt", file=sys.stderr)
        return None


def _write(path: Path, key: str, made: Decoded) -> None:
    from safetensors.torch import save_file

    metadata = {"key": key, "about": json.dumps(made.about)}
    tensors = {name: tensor.contiguous() for name, tensor in made.tensors.items()}

    def write(partial: Path) -> None:
        save_file(tensors, partial, metadata)
        partial.chmod(0o644)  # safetensors makes files readable by their owner only; data folders may be shared

    try:
        write_atomically(path, write)
    except OSError as error:
        print(
            f"note: {path} cannot be written ({error.strerror or error}), so every start decodes the data again",
            file=sys.stderr,
        )
