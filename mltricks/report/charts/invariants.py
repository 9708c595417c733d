"""Lines of a search space along which, to first order, training stays the same.

Source: Smith and Le, "A Bayesian Perspective on Generalization and Stochastic Gradient Descent", 2018,
arXiv:1710.06451, section 4; Page, "How to Train Your ResNet 5: Hyperparameters", 2018: almost flat directions of the
learning rate lr hold lr / batch_size, lr / (1 - momentum) or lr weight_decay constant. Malladi et al., 2022,
arXiv:2205.10782: of Adam and RMSprop, lr / sqrt(batch_size). None is drawn for an optimiser for which it does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mltricks.config.create import locate
from mltricks.figures.base import Trace, line
from mltricks.report.collect import Collected
from mltricks.report.files import read_yaml

RATE = "optim.lr"
Rule = tuple[str, Callable[[float], float]]
"""Name of the constant; the factor by which the rate has to change with the other setting."""
SETTINGS = {"batch_size": "scale_lr", "optim.momentum": "coordinates", "optim.weight_decay": "coordinates"}
"""By key, the setting of the optimiser with which the rate no longer stands for itself."""
LINEAR = ("SGD", "ScheduleFreeSGD")
ROOT = ("Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "ScheduleFree")
"""Optimisers whose rate goes with the batch size, and with its root."""
PLAIN = ("none", "plain", None)
"""Values of these settings with which the rate stands for itself."""
COUNT = 7
"""Number of lines."""


def known_invariant(sweep: Collected, keys: Sequence[str]) -> Rule | None:
    """What stays constant along a flat direction of two swept keys.

    ``None`` if none is known for the optimiser, if several are swept, or if the rates are scaled by it already.
    """
    others = [key for key in keys if key in SETTINGS]
    if RATE not in keys or len(others) != 1 or "optim" in sweep.keys:
        return None
    setting = SETTINGS[others[0]]
    config = read_yaml(sweep.folder / sweep.rows[0].name / "config.yaml") or {}
    node = config.get("optim") or {}
    if f"optim.{setting}" in sweep.keys or node.get(setting) not in PLAIN:
        return None
    return rule_of(others[0], node)


def rule_of(key: str, node: Mapping[str, Any]) -> Rule | None:
    """The invariant of the rate and another key under an optimiser of ours, given as its configuration node.

    >>> rule_of("batch_size", {"_target_": "mltricks.optim.adamw.AdamW"})[0]
    'optim.lr / sqrt(batch_size)'
    >>> rule_of("optim.weight_decay", {"_target_": "mltricks.optim.adam.Adam"})  # its decay is divided by the root
    """
    target = str(node.get("_target_", ""))
    if not target.startswith("mltricks.optim."):
        return None
    cls, name = locate(target, "optim", []), target.rpartition(".")[2]
    if key == "batch_size" and name in LINEAR:
        return "optim.lr / batch_size", lambda size: size
    if key == "batch_size" and name in ROOT:
        return "optim.lr / sqrt(batch_size)", math.sqrt
    if key == "optim.momentum" and getattr(cls, "accumulates", "") == "momentum":
        return "optim.lr / (1 - momentum)", lambda momentum: 1 - momentum
    shrinks = getattr(cls, "shrinks", False)
    if key == "optim.weight_decay" and (node.get(shrinks) if isinstance(shrinks, str) else shrinks):
        return "optim.lr weight_decay", lambda decay: 1 / decay if decay else math.inf
    return None


def flat_lines(rule: Rule, rates: Sequence[float], others: Sequence[float], upright: bool) -> Trace:
    """Lines of constant values, equally far apart, as one trace with gaps.

    Args:
        rule: the invariant.
        rates, others: positions along the axis of the rate and along that of the other key, ascending, rates > 0.
        upright: whether the rate is the vertical axis.
    """
    factor = rule[1]
    scale = [factor(other) for other in others]
    ends = [math.log(rate / s) for rate in (rates[0], rates[-1]) for s in scale if 0 < s < math.inf]
    drawn: list[tuple[float | None, float | None]] = []
    for i in range(1, COUNT + 1):
        constant = math.exp(min(ends) + (max(ends) - min(ends)) * i / (COUNT + 1))
        along = [(constant * s, other) for s, other in zip(scale, others, strict=True)]
        drawn += [*((rate, other) for rate, other in along if rates[0] <= rate <= rates[-1]), (None, None)]
    x, y = ([pair[place] for pair in drawn] for place in ((1, 0) if upright else (0, 1)))
    look = {"width": 1, "dash": "dash", "color": "#ff5c8a"}
    return line(x, y, f"{rule[0]} constant", mode="lines", line=look, hoverinfo="skip", showlegend=False)
