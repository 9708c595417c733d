"""Scores of a configuration, with the interval that its runs allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mltricks.comparison.entry import score_of
from mltricks.comparison.grouping import Configuration
from mltricks.intervals import wilson
from mltricks.sweep.measured import kind_of_repeats
from mltricks.sweep.statistics import mean_interval

OF_SAMPLES = {
    **dict.fromkeys(("classify", "mse", "contrastive"), ("accuracy",)),
    **dict.fromkeys(("bce", "focal", "soft_f1"), ("accuracy", "exact_match")),
}
"""By objective, the metrics that are shares of the samples. On the test split a single run has an interval of these
(Wilson); its validation score is the best of many, for which that interval does not hold. A mean of shares is a share,
so the ends of its interval stay within 0 and 1."""
LOSSES = ("classify", "regress", "next_token", "segment", "bce", "focal", "soft_f1", "mse", "contrastive")
"""Objectives whose loss is never negative, so its interval does not go below 0. Terms of techniques may make that of
training negative; its interval is then left as it is."""


@dataclass(frozen=True)
class Score:
    """A metric on a split.

    Attributes:
        value: the mean over the runs.
        n: the number of runs.
        low, high: ends of the 95 % interval; ``None`` if none can be given.
        over: what the interval is over: ``seeds``, ``folds`` or ``runs`` (Student), ``samples`` (Wilson) or nothing.
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    over: str = ""


def score(one: Configuration, split: str, metric: str) -> Score | None:
    """A metric of the runs that trained to their end; ``None`` if there is none.

    Args:
        one: the configuration.
        split: ``train``, ``val`` or ``test``.
        metric: name of the metric.
    """
    measured = [(e, getattr(e.summary, split).get(metric)) for e in one.whole]
    known = [(e, v) for e, v in measured if v is not None and math.isfinite(v)]
    if not known:
        return None
    values = [v for _, v in known]
    objective = str(one.settings.get("objective"))
    is_share = metric in OF_SAMPLES.get(objective, ())
    if len(values) > 1:
        found = mean_interval(values)
        is_loss = metric == "loss" and objective in LOSSES and min(values) >= 0
        least = 0.0 if is_share or is_loss else -math.inf
        low, high = max(found.low, least), min(found.high, 1.0 if is_share else math.inf)
        over = kind_of_repeats({k for e, _ in known for k in e.seeds if len({o.seeds.get(k) for o, _ in known}) > 1})
        return Score(found.mean, len(values), low, high, over)
    total = known[0][0].summary.samples.get(split, 0)
    if total and split == "test" and is_share:
        return Score(values[0], 1, *wilson(round(values[0] * total), total), "samples")
    return Score(values[0], 1)


def metric_of(found: Sequence[Configuration]) -> tuple[str, bool]:
    """The score by which the runs are compared, and whether higher is better: that of the first run that names one."""
    summaries = [e.summary for one in found for e in one.entries if score_of(e.summary)]
    if not summaries:
        return "loss", False
    return score_of(summaries[0]), summaries[0].objective.get("direction") == "maximize"


def best(found: Sequence[Configuration], metric: str, maximize: bool) -> int | None:
    """The configuration with the best validation score; ``None`` if none has one or two share it."""
    scores = [score(one, "val", metric) for one in found]
    known = [s.value for s in scores if s is not None]
    if not known:
        return None
    top = max(known) if maximize else min(known)
    first = [i for i, s in enumerate(scores) if s is not None and s.value == top]
    return first[0] if len(first) == 1 else None


def epochs_of(one: Configuration, split: str) -> str:
    """The epochs that the metrics of a split belong to.

    Of several runs, the first and the last: ``4-9``.
    """
    found = sorted({e.summary.epoch_of[split] for e in one.whole if split in e.summary.epoch_of})
    return "-".join(map(str, dict.fromkeys([found[0], found[-1]]))) if found else ""


def seconds_of(one: Configuration) -> float | None:
    """The mean training time of the runs that trained to their end, s."""
    found = [entry.summary.seconds for entry in one.whole]
    return math.fsum(found) / len(found) if found else None
