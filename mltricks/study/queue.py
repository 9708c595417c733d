"""The queue of a study's trials: it hands them out so that processes and restarts share one exact budget.

The queue changes the study only under the study's lock. Every trial counts towards the budget except abandoned ones:
those that were interrupted or whose process died. The queue enqueues their parameters again for a later trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.pruning.reporter import ABANDONED, is_abandoned
from mltricks.pruning.storage import exclusive
from mltricks.study.searchers import create_searcher
from mltricks.sweep.claims import Owner, myself

RETRY_OF, ATTEMPT, POINT = "retry_of", "attempt", "point"
"""Trial attributes: the number of the trial that this one repeats, the repeats so far, and the index in the grid."""
OWNER = "owner "
"""Prefix of the study attributes that record which process runs which trials."""

Recover = Callable[[int, Path], bool]
"""Reports the trial of a number from its folders in a sweep's folder; returns whether they hold a result."""


@dataclass
class Asked:
    """A trial to run.

    Attributes:
        trial: Optuna's trial.
        overrides: the overrides of its job.
        values: the values of its replicates so far, by seed.
    """

    trial: Any
    overrides: list[str]
    values: dict[int, list[float]] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The number of the trial in its study."""
        return int(self.trial.number)


class Queue:
    """Hands out the trials of a study.

    Args:
        study: Optuna's study.
        storage: the storage that keeps it.
        settings: the settings of the sweeper.
        space: the search space.
        folder: folder of the sweep; it holds the jobs' folders.
        recover: reads the result of a trial whose process died after writing it.
    """

    def __init__(self, study: Any, storage: Any, settings: dict[str, Any], space: Any, folder: Path, recover: Recover):
        self.study, self.storage, self.settings, self.space, self.folder = study, storage, settings, space, folder
        self.recover, self.me = recover, myself()
        self.points = space.points() if settings["sampler"] == "grid" else None
        self.mine: list[int] = []
        self.budget = self._budget()

    def _budget(self) -> float:
        """The number of trials to run; infinite where only the time is limited."""
        wanted = self.settings["n_trials"]
        if self.points is not None:
            return min(len(self.points), wanted or len(self.points))
        return math.inf if wanted is None else wanted

    def trials(self) -> list[Any]:
        """All trials that count towards the budget, including queued ones."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if not is_abandoned(trial)]

    def num_finished(self) -> int:
        """The number of trials that have a result."""
        return sum(trial.state.is_finished() for trial in self.trials())

    def num_counted(self) -> int:
        """The number of trials that have started and count towards the budget."""
        return sum(trial.state.name != "WAITING" for trial in self.trials())

    def ask(self, most: int) -> list[Asked]:
        """Return up to ``most`` new trials: fewer near the end of the budget, none when it is spent."""
        with exclusive(self.storage, self.study.study_name):
            self.redo_lost()
            size = int(min(most, self.budget - self.num_counted()))
            if size <= 0:
                return []
            self._queue_points(size)
            self.study.sampler = create_searcher(self.settings, self.space, len(self.study.get_trials(deepcopy=False)))
            trials = [self.study.ask() for _ in range(size)]
            asked = [Asked(trial, self.space.suggest(trial)) for trial in trials]
            self._own([trial.number for trial in trials])
            return asked

    def _own(self, numbers: Sequence[int]) -> None:
        """Record that this process runs these trials: one record for all of them, as each write is slow."""
        self.mine += numbers
        record = {"pid": self.me.pid, "started": self.me.started, "host": self.me.host}
        record |= {"folder": str(self.folder.absolute()), "trials": self.mine}
        self.study.set_user_attr(f"{OWNER}{self.me.host} {self.me.pid} {self.me.started}", json.dumps(record))

    def _queue_points(self, size: int) -> None:
        """Enqueue the next points of the grid that no trial has taken."""
        if self.points is None:
            return
        trials = self.trials()
        taken = {trial.user_attrs.get(POINT) for trial in trials}
        waiting = sum(trial.state.name == "WAITING" for trial in trials)
        free = [i for i in range(len(self.points)) if i not in taken]
        for i in free[: size - waiting]:
            self.study.enqueue_trial(self.points[i], user_attrs={POINT: i})

    def redo_lost(self) -> None:
        """Settle the trials of dead processes: record the result if there is one, else enqueue the trial again."""
        running = [trial for trial in self.trials() if trial.state.name == "RUNNING"]
        if not running:
            return
        owners = self._owners()
        for trial in running:
            owner, folder = owners.get(trial.number, (None, self.folder))
            if self._is_lost(trial.number, owner) and not self.recover(trial.number, folder):
                self.abandon(trial.number, "its process died", folder)

    def _is_lost(self, number: int, owner: Owner | None) -> bool:
        """Whether a trial's process is dead. A trial has no owner if its process died while it asked for the trial."""
        if owner is None or owner == self.me:
            return number not in self.mine
        return self.settings["resume_running"] == "all" or not owner.is_alive()

    def _owners(self) -> dict[int, tuple[Owner, Path]]:
        """Map each trial's number to its process and to the folder of that process's sweep."""
        found: dict[int, tuple[Owner, Path]] = {}
        for name, text in self.study.user_attrs.items():
            if name.startswith(OWNER):
                said = json.loads(text)
                owner = Owner(said["pid"], said["started"], said["host"])
                found |= {number: (owner, Path(said["folder"])) for number in said["trials"]}
        return found

    def abandon(self, number: int, reason: str, folder: Path) -> None:
        """Mark a trial as abandoned, so that it does not count, and enqueue its parameters again.

        After ``max_retries`` attempts the trial counts as failed instead. A trial without a folder had not started,
        which is not an attempt.

        Args:
            number: number of the trial.
            reason: the reason, for the study.
            folder: folder of the sweep that the trial was part of.
        """
        import optuna

        trials = self.study.get_trials(deepcopy=False)
        trial = trials[number]
        if trial.state.is_finished():
            return
        begun = (folder / str(number * self.settings["replicates"])).exists()
        attempt = trial.user_attrs.get(ATTEMPT, 0)
        if attempt < self.settings["max_retries"] or not begun:
            params = self._params(trial)
            # a process may have died between these writes: never enqueue the same retry twice
            if params and not any(t.user_attrs.get(RETRY_OF) == number for t in trials):
                kept = {k: v for k, v in trial.user_attrs.items() if k == POINT}
                self.study.enqueue_trial(params, user_attrs={**kept, RETRY_OF: number, ATTEMPT: attempt + begun})
            id_ = self.storage.get_trial_id_from_study_id_trial_number(self._id, number)
            self.storage.set_trial_user_attr(id_, ABANDONED, reason)
        self.study.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _params(self, trial: Any) -> dict[str, Any]:
        """The parameters of a trial. If its process died before it took them, those it was given to take."""
        if self.points is not None and POINT in trial.user_attrs:
            return self.points[trial.user_attrs[POINT]]
        return {**trial.system_attrs.get("fixed_params", {}), **trial.params}

    @property
    def _id(self) -> int:
        return int(self.storage.get_study_id_from_name(self.study.study_name))
