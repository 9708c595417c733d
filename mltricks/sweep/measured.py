"""Which settings repeat a run, and which change what its score is measured on."""

from __future__ import annotations

from collections.abc import Iterable

FOLD = "data.fold"
"""The fold that is held out: a run with every fold is a cross-validation of one configuration."""
TRAINED_ON = (
    *("fraction", "limit", "labels_per_class", "unlabeled_ratio", "unlabeled_from", "pseudo_labels", "pseudo_share"),
    *("drop_last", "epoch_size", "statistics", "download", "root"),
)
"""Settings of ``data`` that do not change the validation and test splits."""


def is_measure(key: str) -> bool:
    """Whether a key changes the data or the metric of the score, so that scores cannot be compared.

    >>> [is_measure(k) for k in ("data", "data.path", "objective_metric", "data.fraction", "data.fold", "optim.lr")]
    [True, True, True, False, False, False]
    """
    group, _, setting = key.partition(".")
    return key == "objective_metric" or (group == "data" and setting not in TRAINED_ON and key != FOLD)


def is_repeat(key: str) -> bool:
    """Whether runs with other values of a key repeat one configuration: a seed, or the fold of a cross-validation.

    >>> [is_repeat(k) for k in ("seed", "technique.x.seed", "data.fold", "data.folds", "data.split_seed")]
    [True, True, True, False, False]
    """
    return key in ("seed", FOLD) or key.endswith(".seed")


def kind_of_repeats(keys: Iterable[str]) -> str:
    """What runs of one configuration differ in, for messages: ``seeds``, ``folds``, or ``runs`` for both.

    >>> kind_of_repeats(["seed"]), kind_of_repeats(["data.fold"]), kind_of_repeats(["seed", "data.fold"])
    ('seeds', 'folds', 'runs')
    """
    kinds = {"folds" if key == FOLD else "seeds" for key in keys}
    return "runs" if len(kinds) > 1 else "".join(kinds) or "seeds"
