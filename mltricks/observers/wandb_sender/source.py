"""The user's own code that a run uses: the files of the packages in ``allow_modules``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

MAX_FILES, MAX_BYTES = 500, 1_000_000
"""Most files, and the size from which a file is no code."""


def source_files(packages: Sequence[str]) -> list[tuple[str, str]]:
    """Paths of Python files and their names in the artifact; not of installed packages, whose versions say enough."""
    found: list[tuple[str, str]] = []
    for package in packages:
        found += [(str(path), name) for path, name in files_of(package) if path.stat().st_size <= MAX_BYTES]
    return found[:MAX_FILES]


def files_of(package: str) -> Iterator[tuple[Path, str]]:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None or "site-packages" in spec.origin:
        return
    if spec.submodule_search_locations is None:
        yield Path(spec.origin), Path(spec.origin).name
        return
    for place in spec.submodule_search_locations:
        for path in sorted(Path(place).rglob("*.py")):
            yield path, f"{package}/{path.relative_to(place).as_posix()}"
