"""Decoded data kept in one file, so that the next start maps it into memory instead of decoding again."""

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
"""Raised whenever what is written changes its meaning."""
FOLDER = ".mltricks"
"""Where cache files lie, below ``data.root``."""


@dataclass
class Decoded:
    """What a cache file holds: tensors, and ``about``, anything JSON can say."""

    tensors: dict[str, Tensor]
    about: dict[str, Any] = field(default_factory=dict)


def cached(root: str, name: str, key: dict[str, Any], make: Callable[[], Decoded]) -> Decoded:
    """What ``make`` gives, read from the cache where it was made before with the same key.

    Args:
        root: ``data.root``.
        name: of the cache file, without a suffix.
        key: everything the result depends on, as JSON can say it: sizes and times of the source files, settings.
        make: decodes the sources.

    Returns:
        Tensors mapped from the file where there is one. A root that cannot be written costs the cache, not the run.
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
    """Size in bytes and time of the last change in ns: what tells that a file is still the same."""
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
        print(f"note: the cache {path} is damaged ({error}) and is made anew", file=sys.stderr)
        return None


def _write(path: Path, key: str, made: Decoded) -> None:
    from safetensors.torch import save_file

    metadata = {"key": key, "about": json.dumps(made.about)}
    tensors = {name: tensor.contiguous() for name, tensor in made.tensors.items()}

    def write(partial: Path) -> None:
        save_file(tensors, partial, metadata)
        partial.chmod(0o644)  # safetensors writes for the owner alone; a data folder is shared

    try:
        write_atomically(path, write)
    except OSError as error:
        print(
            f"note: {path} cannot be written ({error.strerror or error}), so every start decodes anew", file=sys.stderr
        )
