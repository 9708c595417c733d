"""``job=probe``: a linear model on the frozen features of a run, its penalty chosen on the validation split.

Source: Alain, Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644; the
procedure is that of Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
arXiv:2103.00020, appendix A.3: logistic regression by L-BFGS, its L2 penalty searched over powers of ten and then
between the best and its neighbours.
Deviation: features are standardised over the training samples; the penalty stands beside the mean loss, so that it does
not depend on their number; the model is fitted to the training split alone, the source adds the validation split.
Values are predicted by ridge regression. Features are computed once, without augmentation. The test split is measured
once, with the chosen penalty.
Cost: one forward pass over the three splits for each row, and about as many fits as there are penalties to try.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltricks.config.compose import plain
from mltricks.config.values import Count, Positive, Size, check_values
from mltricks.features.encoder import Samples
from mltricks.features.scores import Predict, Task, fit_linear, measured
from mltricks.functional.linear_fit import Linear, standardize
from mltricks.probes.of_features import Row, run_job

SETTINGS = {"l2": list[Positive], "refinements": Size, "max_iterations": Count, "layer": str | None, "baselines": bool}


def probe(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float:
    """Measure the features of the run in ``checkpoint``; return the score of the linear model on validation.

    Raises:
        ValueError: the checkpoint is missing, or its features or the data do not serve.
    """
    settings = plain(cfg)["job"]
    check_values(settings, SETTINGS)
    if not settings["l2"]:
        raise ValueError("l2=[] names no penalty to try. Type l2=[1e-3] or more of them.")

    def learn(samples: dict[str, Samples], task: Task) -> tuple[Predict, Row]:
        return chosen(samples, task, settings)

    return run_job(cfg, folder, overrides, mode, "probe", learn)


def chosen(samples: dict[str, Samples], task: Task, settings: dict[str, Any]) -> tuple[Predict, Row]:
    """The linear model whose penalty has the best score on validation, and what was tried.

    Of equal scores, that of the lower loss wins.
    """
    scale = standardize(samples["train"].x)
    bank = Samples(scale(samples["train"].x), samples["train"].y)
    seen, objective = scale(samples["val"].x), task.objective
    tried: dict[float, tuple[Linear, dict[str, float]]] = {}

    def attempt(l2: float, start: Linear | None) -> Linear:
        fit = fit_linear(bank, task, l2, settings["max_iterations"], start)
        tried[l2] = (fit, measured(task, fit(seen), samples["val"].y))
        return fit

    def best() -> float:
        sign = 1 if objective.higher_is_better else -1
        return max(tried, key=lambda l2: (sign * tried[l2][1][objective.score], -tried[l2][1]["loss"]))

    last: Linear | None = None
    for l2 in sorted({float(one) for one in settings["l2"]}, reverse=True):  # a weak penalty starts from a strong one
        last = attempt(l2, last)
    for _ in range(settings["refinements"]):
        for l2 in between(sorted(tried), best()):
            attempt(l2, tried[best()][0])
    l2 = best()
    fit = tried[l2][0]
    found = {
        "used": {"l2": l2},
        "tried": [{"l2": one, **tried[one][1]} for one in sorted(tried)],
        "advice": advice(sorted(tried), l2, fit, settings),
    }
    return lambda features: fit(scale(features)), found


def advice(known: list[float], best: float, fit: Linear, settings: dict[str, Any]) -> list[str]:
    """What to change where the search or the solver ended early."""
    lines = []
    if len(known) > 1 and best in (known[0], known[-1]):
        way, more = ("smallest", best / 100) if best == known[0] else ("largest", best * 100)
        lines.append(f"The {way} penalty is the best: type l2=[{min(best, more):g},{max(best, more):g}] to go on.")
    if not fit.converged:
        more = 2 * settings["max_iterations"]
        lines.append(f"The solver ended before the minimum: type max_iterations={more:g} for more exact weights.")
    return lines


def between(known: list[float], best: float) -> list[float]:
    """The geometric means of the best of ascending numbers with its neighbours.

    >>> between([0.01, 1.0, 100.0], 1.0)
    [0.1, 10.0]
    """
    at = known.index(best)
    around = [*known[max(0, at - 1) : at], *known[at + 1 : at + 2]]
    return [float(f"{(best * other) ** 0.5:.6g}") for other in around]
