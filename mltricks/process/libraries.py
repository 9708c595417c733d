"""The shared libraries of torch, loaded by a thread while Hydra composes: 0.3 s of work that needs no interpreter."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

LATER = ("hydra/launcher=", "hydra.job.env_set")
"""With these a job may have an environment of its own, and OpenMP reads ``OMP_NUM_THREADS`` as soon as it is loaded."""


def load_ahead(arguments: Sequence[str]) -> None:
    """Begin to load what ``import torch`` will load, for a sweep, which imports torch before the first job in any case.

    Args:
        arguments: as typed.
    """
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
    if is_sweep and sys.platform == "linux" and not any(a.lstrip("+~").startswith(LATER) for a in arguments):
        for module in ("fcntl", "subprocess"):  # imported meanwhile they would wait for the thread: one loads at a time
            import_module(module)
        threading.Thread(target=_load, name="torch's libraries").start()


def _load() -> None:
    found = find_spec("torch")
    if found is not None and found.origin is not None:
        library = Path(found.origin).parent / "lib" / "libtorch_python.so"
        # called in this way it lets the interpreter go on; where it fails, import torch says why
        ctypes.CDLL(None).dlopen(str(library).encode(), os.RTLD_NOW)
