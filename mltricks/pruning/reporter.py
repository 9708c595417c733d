"""Report the scores of a trial to its study, from the process that keeps the study or from another."""

from __future__ import annotations

import base64
import functools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mltricks.pruning.pruners import Curves, create_pruner
from mltricks.pruning.storage import open_storage

ABANDONED = "abandoned"
"""User attribute of a trial that does not count, because it was interrupted or its process died."""


@dataclass(frozen=True)
class Token:
    """The data that a trial needs to report, small enough for an environment variable.

    Attributes:
        storage: URL of the storage.
        study: name of the study.
        number: of the trial in it.
        direction: ``maximize`` or ``minimize``.
        pruner: settings of the sweeper that name the rule and its parameters.
        epochs: length of a full trial; the score at its end is the result, not a report.
    """

    storage: str
    study: str
    number: int
    direction: str
    pruner: Mapping[str, Any]
    epochs: int

    def encode(self) -> str:
        """The token as text made of letters, digits, ``-`` and ``_``."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")


def decode(text: str) -> Token:
    """Decode the text that ``Token.encode`` returned.

    Raises:
        ValueError: the text is no token.
    """
    try:
        return Token(**json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    except (ValueError, TypeError) as error:
        raise ValueError(f"MLTRICKS_TRIAL={text} is no token of a study. Leave it unset.") from error


def attached(token: str) -> Reporter | None:
    """The reporter of the trial that a token names; ``None`` for an empty token or a study without a pruning rule."""
    if not token:
        return None
    known = decode(token)
    return Reporter(known) if create_pruner(known.pruner, known.epochs) is not None else None


class Reporter:
    """Reports the scores of a trial, and asks whether the trial is given up.

    Args:
        token: the token of the trial.
    """

    def __init__(self, token: Token):
        pruner = create_pruner(token.pruner, token.epochs)
        assert pruner is not None, "a study without a pruner hands out no token"
        self.pruner, self.number, self.epochs = pruner, token.number, token.epochs
        self.sign = 1.0 if token.direction == "maximize" else -1.0
        self.study = _study(token.storage, token.study, os.getpid())
        self.last = 0

    def due(self, epoch: int) -> bool:
        """Whether the rule wants a report after this epoch, counted from 1; never after the last."""
        return epoch < self.epochs and self.pruner.due(self.number, epoch, self.last)

    def report(self, epoch: int, value: float) -> None:
        """Report a score; NaN counts as the worst possible."""
        self.study.report(self.number, epoch, value)
        self.last = epoch

    def hopeless(self) -> bool:
        """Whether the rule gives the trial up, from the reports of all trials."""
        if not self.last:
            return False
        curves = self.study.curves(self.sign)
        mine = {epoch: value for epoch, value in curves.get(self.number, {}).items() if epoch <= self.last}
        # a trial that began again after running out of memory has older reports of epochs it has not reached yet
        return bool(mine) and self.pruner.hopeless({**curves, self.number: mine}, self.number)


class Reports:
    """The reports of a study, read at most once between two reports of this process.

    Args:
        url: URL of the storage.
        name: name of the study.
    """

    def __init__(self, url: str, name: str):
        import optuna

        self.storage = open_storage(url)
        self.id = self.storage.get_study_id_from_name(name)
        sampler, pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
        self.study = optuna.load_study(study_name=name, storage=self.storage, sampler=sampler, pruner=pruner)
        self.known: Curves | None = None

    def report(self, number: int, epoch: int, value: float) -> None:
        """Write one value."""
        trial = self.storage.get_trial_id_from_study_id_trial_number(self.id, number)
        self.storage.set_trial_intermediate_value(trial, epoch, value)
        self.known = None

    def curves(self, sign: float) -> Curves:
        """The curves of all trials that count."""
        if self.known is None:
            trials = self.study.get_trials(deepcopy=False)
            self.known = {t.number: _scores(t.intermediate_values, sign) for t in trials if not is_abandoned(t)}
        return self.known


def is_abandoned(trial: Any) -> bool:
    """Whether a trial was abandoned and does not count."""
    return ABANDONED in trial.user_attrs


def _scores(values: Mapping[int, float], sign: float) -> dict[int, float]:
    return {epoch: -math.inf if math.isnan(value) else sign * value for epoch, value in values.items()}


@functools.cache
def _study(url: str, name: str, pid: int) -> Reports:
    """One object per process: ``pid`` is part of the cache key, because a fork must not share a connection."""
    return Reports(url, name)
