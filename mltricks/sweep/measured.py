"""Which settings change what a score is measured on, so that scores under different values cannot be compared."""

from __future__ import annotations

TRAINED_ON = ("fraction", "limit", "unlabeled_ratio", "drop_last", "download", "root")
"""Settings of ``data`` that do not change the validation and test splits."""


def is_measure(key: str) -> bool:
    """Whether a key changes the data or the metric of the score.

    >>> [is_measure(k) for k in ("data", "data.path", "objective_metric", "data.fraction", "optim.lr")]
    [True, True, True, False, False]
    """
    group, _, setting = key.partition(".")
    return key == "objective_metric" or (group == "data" and setting not in TRAINED_ON)
