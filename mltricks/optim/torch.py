"""Any optimiser of ``torch.optim`` by its name.

Source: the class's own documentation. Deviation: ``LBFGS`` and ``SparseAdam`` are refused: the first evaluates the loss
itself, the second needs sparse gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltricks.config.values import suggest
from mltricks.optim.named import Named

UNFIT = {
    "LBFGS": "it evaluates the loss several times an update",
    "SparseAdam": "it takes sparse gradients only",
}


@dataclass(frozen=True)
class Torch(Named):
    """One update of ``torch.optim.<name>``."""

    option = "torch"

    def constructor(self) -> Callable[..., Any]:
        return find(self.name)


def classes() -> dict[str, Any]:
    """The optimisers of ``torch.optim`` by name, those that do not fit included."""
    import torch.optim  # imported here, because it takes a second

    known = {n: c for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)}
    del known["Optimizer"]
    return known


def names() -> list[str]:
    """The values of ``optim.name``."""
    return [name for name in classes() if name not in UNFIT]


def find(name: str) -> Any:
    """The class of ``torch.optim`` with this name.

    Raises:
        ValueError: the class does not exist, or is not supported.
    """
    known = classes()
    if name in UNFIT:
        raise ValueError(
            f"optim.name={name} cannot be used: {UNFIT[name]}. Type another, for instance optim.name=RMSprop."
        )
    if name not in known:
        raise ValueError(
            f"optim.name={name} is no optimiser of torch.optim. {suggest(name, known.keys() - UNFIT.keys())}"
        )
    return known[name]
