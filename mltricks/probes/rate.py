"""The learning rates of a configuration: ``lr``, and others that keep their ratio to it."""

from __future__ import annotations

from typing import Any

from mltricks.config.create import given_target, locate
from mltricks.optim import coordinates


def learning_rates(cfg: dict[str, Any]) -> dict[str, float]:
    """The learning rates of the optimiser, by setting; the first is ``lr``.

    Args:
        cfg: the resolved configuration as nested dicts.

    Raises:
        ValueError: one of them has a schedule of its own.
    """
    node = cfg["optim"]
    names = getattr(locate(given_target(node, "optim"), "optim", cfg["allow_modules"]), "learning_rates", ("lr",))
    for name in names:
        if isinstance(node.get(name), dict):
            raise ValueError(
                f"optim.{name} has a schedule of its own, but this job needs a single rate. Type optim.{name}=1e-3."
            )
        if name not in node:
            raise ValueError(
                f"the optimiser has no setting {name}. Type optim=adamw, or another optimiser that has it."
            )
    return {name: float(node[name]) for name in names}


def plain_rate(cfg: dict[str, Any]) -> float:
    """The learning rate of the step for an ``optim.lr`` of 1: another than 1 with ``scale_lr`` and ``coordinates``."""
    node = cfg["optim"]
    cls = locate(given_target(node, "optim"), "optim", cfg["allow_modules"])
    return coordinates.rate_factor(node, cls, cfg["batch_size"])


def at_rate(cfg: dict[str, Any], rates: dict[str, float]) -> dict[str, Any]:
    """The same configuration with other learning rates."""
    return {**cfg, "optim": {**cfg["optim"], **rates}}


def together(cfg: dict[str, Any], rate: float) -> dict[str, float]:
    """All learning rates if the first is ``rate`` and the others keep their ratio to it.

    >>> node = {"_target_": "mltricks.optim.muon.Muon", "lr": 0.02, "adam_lr": 0.002}
    >>> together({"optim": node, "allow_modules": []}, 0.1)
    {'lr': 0.1, 'adam_lr': 0.01}
    """
    rates = learning_rates(cfg)
    first = next(iter(rates.values()))
    return {
        name: rate if i == 0 else float(f"{rate * value / first:.6g}") for i, (name, value) in enumerate(rates.items())
    }
