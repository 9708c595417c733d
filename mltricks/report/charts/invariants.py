"""Lines of a search space along which, to first order, training stays the same.

Source: Smith and Le, "A Bayesian Perspective on Generalization and Stochastic Gradient Descent", 2018,
arXiv:1710.06451, section 4; Page, "How to Train Your ResNet 5: Hyperparameters", 2018: almost flat directions of the
learning rate lr hold lr / batch_size, lr / (1 - momentum) or lr weight_decay constant. For Adam and RMSprop the first
one is lr / sqrt(batch_size): Malladi, Lyu, Panigrahi, Arora, 2022, arXiv:2205.10782. A line is drawn only for an
optimiser for which it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mltricks.config.create import locate
from mltricks.figures.base import Trace, line
from mltricks.report.collect import Collected
from mltricks.report.files import read_yaml

RATE = "optim.lr"
SIZE, MOMENTUM, DECAY = "batch_size", "optim.momentum", "optim.weight_decay"
SETTING = {SIZE: "scale_lr", MOMENTUM: "coordinates", DECAY: "coordinates"}
"""The setting of the optimiser with which the rate no longer stands for itself, by the other key."""
PLAIN = ("none", "plain", None)
"""Values of these settings with which the rate stands for itself."""
Rule = tuple[str, Callable[[float], float]]
"""Name of the constant, and the factor by which the rate has to change with the other key."""
OF_SIZE: dict[str, Rule] = {
    "SGD": ("optim.lr / batch_size", lambda size: size),
    **dict.fromkeys(("Adam", "AdamW", "RMSprop"), ("optim.lr / sqrt(batch_size)", math.sqrt)),
}
"""By the class of the optimiser."""
COUNT = 7
"""Number of lines."""


def known_invariant(sweep: Collected, keys: Sequence[str]) -> Rule | None:
    """What stays constant along a flat direction of two swept keys; ``None`` if none is known for the optimiser, or if
    the rates are scaled by it already."""
    others = [key for key in keys if key in SETTING]
    if RATE not in keys or len(others) != 1 or "optim" in sweep.keys:
        return None
    setting = SETTING[others[0]]
    config = read_yaml(sweep.folder / sweep.rows[0].name / "config.yaml") or {}
    optim = config.get("optim") or {}
    scaled = f"optim.{setting}" in sweep.keys or optim.get(setting) not in PLAIN
    return None if scaled else rule_of(others[0], optim)


def rule_of(key: str, optim: dict[str, Any]) -> Rule | None:
    """The invariant of the learning rate and another key for the optimiser of a node; ``None`` for a foreign class."""
    target = str(optim.get("_target_", ""))
    if not target.startswith("mltricks.optim."):
        return None
    cls = locate(target, "optim", ())
    shrinks = optim.get(cls.shrinks) if isinstance(cls.shrinks, str) else cls.shrinks
    if key == SIZE:
        return OF_SIZE.get(cls.__name__)
    if key == MOMENTUM:
        return ("optim.lr / (1 - momentum)", lambda momentum: 1 - momentum) if cls.accumulates == "momentum" else None
    return ("optim.lr weight_decay", lambda decay: 1 / decay if decay else math.inf) if shrinks else None


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
