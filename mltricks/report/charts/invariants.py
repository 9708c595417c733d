"""Lines of a search space along which, to first order, training stays the same.

Source: Smith and Le, "A Bayesian Perspective on Generalization and Stochastic Gradient Descent", 2018,
arXiv:1710.06451, section 4; Page, "How to Train Your ResNet 5: Hyperparameters", 2018: almost flat directions of the
learning rate lr hold lr / batch_size, lr / (1 - momentum) or lr weight_decay constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mltricks.figures.base import Trace, line
from mltricks.report.collect import Collected
from mltricks.report.files import read_yaml

RATE = "optim.lr"
Rule = tuple[str, str, Callable[[float], float]]
"""Name of the constant; the setting of the optimiser with which the rate no longer stands for itself; the factor by
which the rate has to change with the other setting."""
INVARIANTS: dict[str, Rule] = {
    "batch_size": ("optim.lr / batch_size", "scale_lr", lambda size: size),
    "optim.momentum": ("optim.lr / (1 - momentum)", "coordinates", lambda momentum: 1 - momentum),
    "optim.weight_decay": ("optim.lr weight_decay", "coordinates", lambda decay: 1 / decay if decay else math.inf),
}
PLAIN = ("none", "plain", None)
"""Values of these settings with which the rate stands for itself."""
COUNT = 7
"""Number of lines."""


def known_invariant(sweep: Collected, keys: Sequence[str]) -> Rule | None:
    """What stays constant along a flat direction of two swept keys; ``None`` if none is known, or the rates are scaled
    by it already."""
    others = [key for key in keys if key in INVARIANTS]
    if RATE not in keys or len(others) != 1:
        return None
    setting = INVARIANTS[others[0]][1]
    config = read_yaml(sweep.folder / sweep.rows[0].name / "config.yaml") or {}
    scaled = f"optim.{setting}" in sweep.keys or (config.get("optim") or {}).get(setting) not in PLAIN
    return None if scaled else INVARIANTS[others[0]]


def flat_lines(rule: Rule, rates: Sequence[float], others: Sequence[float], upright: bool) -> Trace:
    """Lines of constant values, equally far apart, as one trace with gaps.

    Args:
        rule: the invariant.
        rates, others: positions along the axis of the rate and along that of the other key, ascending, rates > 0.
        upright: whether the rate is the vertical axis.
    """
    factor = rule[2]
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
