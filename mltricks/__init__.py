"""Every technique for training neural networks one override away, proven on real data.

The names below are imported when first used, so that ``import mltricks`` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mltricks.config.compose import compose
    from mltricks.predictor import load
    from mltricks.train import train

__version__ = "0.1.0"
__all__ = ["compose", "load", "train"]

_HOME = {"compose": "mltricks.config.compose", "train": "mltricks.train", "load": "mltricks.predictor"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mltricks' has no attribute {name!r}")


class _Package(ModuleType):
    """Keeps ``mltricks.train`` the function: when a submodule is imported, it is set as an attribute of its package."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, getattr(value, name) if name in _HOME and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
