"""A training tool for PyTorch: every technique is a configuration option that one override switches on.

The public names load on first use, so that ``import mltricks`` does not import torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mltricks.batch_figure import show_batch
    from mltricks.config.compose import compose
    from mltricks.ensemble import load
    from mltricks.train import train

__version__ = "0.1.0"
__all__ = ["compose", "load", "show_batch", "train"]

_HOME = {
    "compose": "mltricks.config.compose",
    "train": "mltricks.train",
    "load": "mltricks.ensemble",
    "show_batch": "mltricks.batch_figure",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mltricks' has no attribute {name!r}")


class _Package(ModuleType):
    """Keep ``mltricks.train`` the function: Python would overwrite it with the submodule of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, getattr(value, name) if name in _HOME and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
