"""Any optimiser of timm by its name.

Source: Wightman, "PyTorch Image Models", ``timm.optim``; the names and default arguments are those of its factory, with
its momentum of 0.9. Deviation: without the factory's parameter groups (``no_decay=norm_and_bias`` makes them) and its
prefix ``lookahead_``; refused are optimisers that need second derivatives, apex or bitsandbytes, or that keep lists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltricks.config.values import suggest
from mltricks.optim.named import Named

MOMENTUM = 0.9
"""The momentum that timm's factory gives where a class takes one."""


@dataclass(frozen=True)
class Timm(Named):
    """One update of the optimiser that ``timm.optim.create_optimizer_v2`` makes for ``<name>``."""

    option = "timm"

    def constructor(self) -> Callable[..., Any]:
        return find(self.name)


def names() -> list[str]:
    """The values of ``optim.name``."""
    from timm.optim import list_optimizers

    return [name for name in map(str, list_optimizers()) if not unfit(name)]


def unfit(name: str) -> str:
    """Why an optimiser of timm cannot be used; empty if it can."""
    from timm.optim import get_optimizer_info

    info = get_optimizer_info(name)
    if isinstance(info.opt_class, str):
        return f"it needs the package {info.opt_class.partition('.')[0]} and CUDA"
    return "it needs second derivatives" if info.second_order else "it keeps lists" if "kron" in name else ""


def find(name: str) -> Any:
    """The optimiser of timm with this name and the factory's defaults.

    Raises:
        ValueError: timm is not installed, or the optimiser does not exist or is not supported.
    """
    try:
        from timm.optim import get_optimizer_class, get_optimizer_info, list_optimizers
    except ImportError as error:
        raise ValueError("optim=timm needs the package timm. Type: pip install timm") from error
    if name not in list_optimizers():
        raise ValueError(f"optim.name={name} is no optimiser of timm. {suggest(name, names())}")
    if why := unfit(name):
        raise ValueError(f"optim.name={name} cannot be used: {why}. Type another, for instance optim.name=adamp.")
    made: Callable[..., Any] = get_optimizer_class(name)
    return functools.partial(made, momentum=MOMENTUM) if get_optimizer_info(name).has_momentum else made
