"""Load torch's shared libraries in a thread while Hydra composes: 0.3 s of work outside the interpreter."""

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
"""With these settings a job may set its own ``OMP_NUM_THREADS``, which OpenMP reads once, when it is loaded."""


def load_ahead(arguments: Sequence[str]) -> None:
    """Start loading the libraries of ``import torch`` for a sweep, which imports torch before its first job anyway.

    Args:
        arguments: of the command line, as typed.
    """
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
    if is_sweep and sys.platform == "linux" and not any(a.lstrip("+~").startswith(LATER) for a in arguments):
        for module in ("fcntl", "subprocess"):  # import these first: the dynamic loader's lock would block them
            import_module(module)
        threading.Thread(target=_load, name="torch's libraries").start()


def _load() -> None:
    found = find_spec("torch")
    if found is not None and found.origin is not None:
        library = Path(found.origin).parent / "lib" / "libtorch_python.so"
        # a call through ctypes releases the GIL; if it fails, `import torch` reports the reason
        ctypes.CDLL(None).dlopen(str(library).encode(), os.RTLD_NOW)
