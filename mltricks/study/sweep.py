"""The study sweeper: a searcher suggests trials, and a storage keeps them.

The storage lists the trials, and the jobs' folders hold their results. ``n_trials`` is the budget of the whole study:
the same command resumes a stopped study, and several processes share one budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.config.stages import stage_names
from mltricks.jobs import own_searchpath
from mltricks.launch.patched import TRIAL
from mltricks.launch.tally import showing
from mltricks.pruning.reporter import Token, is_abandoned
from mltricks.pruning.storage import SQLITE, absolute, close_storage, exclusive
from mltricks.stages.plan import last_of
from mltricks.study.measures import Goals, check_jobs_have_one, check_measured, read_goals
from mltricks.study.queue import Asked, Queue
from mltricks.study.replicates import REPLICATES, Replicates
from mltricks.study.results import best_trials, closing_lines, write_results
from mltricks.study.same_study import open_study, record_of
from mltricks.study.searchers import create_searcher, notes
from mltricks.study.settings import batch_size, check_settings
from mltricks.study.verdict import Verdict, tell
from mltricks.sweep.claims import Claims
from mltricks.sweep.measured import FOLD
from mltricks.sweep.outcome import JobsFailed, Outcome
from mltricks.sweep.runner import Place, Sweep, continue_unfinished
from mltricks.sweep.space import Space, read_space

RULES = ("median", "asha", "hyperband", "patient")
"""Settings that hold a pruning rule's numbers."""


def sweep(settings: dict[str, Any], place: Place, arguments: list[str]) -> list[Outcome]:
    """Run the trials of a study until its budget or its time is spent.

    Args:
        settings: the settings in ``conf/hydra/sweeper/study.yaml``.
        place: Hydra's objects for the sweep.
        arguments: the overrides of the command.

    Raises:
        ValueError: a setting, an override or the study is invalid; no trial has run.
    """
    check_settings(settings)
    space = read_space(arguments, place, settings["tune"])
    cfgs = [space.compositions.plain(job) for job in space.examples()]
    check_jobs_have_one(cfgs)
    goals = read_goals(settings, cfgs)
    settings = {
        **settings,
        "direction": goals.directions if len(goals.names) > 1 else goals.directions[0],
    }
    check_fit(settings, space, goals)
    check_measured(goals, cfgs[0])
    folder = choose_folder(settings, place.config)
    url, name = absolute(settings["storage"] or f"{SQLITE}{folder / 'study.db'}"), settings["study_name"] or "study"
    record = record_of(space, cfgs[0], goals, settings["replicates"])
    kept = open_study(url, name, goals.directions, record)  # before writing to the folder: this may refuse the study
    try:
        return Study(settings, TrialRunner(place), space, cfgs[0], goals, url, kept).run()
    finally:
        close_storage(kept[1])


def check_fit(settings: dict[str, Any], space: Space, goals: Goals) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ValueError: the message names the fix.
    """
    check_searched(settings, space)
    create_searcher(settings, space, 0)
    pruner, judged = settings["pruner"], ",".join(goals.names)
    if pruner != "none" and goals.names != (goals.steering,):
        raise ValueError(
            f"pruner={pruner} judges runs by {goals.steering}, and the study optimises {judged}. Type pruner=none, "
            "or objective_metric=val/METRIC in place of objectives."
        )
    if pruner != "none" and settings["replicates"] > 1:
        raise ValueError(
            f"pruner={pruner} with replicates={settings['replicates']}: replicates already drop hopeless trials by "
            "their own rule. Leave one of the two out."
        )
    if settings["replicates"] > 1 and "seed" in space.domains():
        raise ValueError("seed is swept, and replicates set the seed too. Leave one of the two out.")


def check_searched(settings: dict[str, Any], space: Space) -> None:
    """Refuse a study that searches nothing, unless it is a grid, which then has one trial, or that searches folds.

    Raises:
        ValueError: the message names the fix.
    """
    if FOLD in space.domains():
        raise ValueError(
            f"{FOLD} is swept, and a study would look for the easiest fold. Type one, as {FOLD}=0, and cross-validate "
            f"the best trial: hydra/sweeper=grid {FOLD}=0,1,2,3,4."
        )
    if not space.searched() and settings["sampler"] != "grid":
        raise ValueError(
            "Nothing is searched: all trials would be the same. Type tune=optim.lr, or optim.lr=interval(0.001,0.1)."
        )


def choose_folder(settings: dict[str, Any], config: Any) -> Path:
    """Choose the sweep's folder: the one named by ``study_name``, the stopped one of the same command, or a new one."""
    from omegaconf import OmegaConf, read_write

    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    if settings["study_name"] is not None and "${" in raw["dir"]:
        with read_write(config.hydra):
            config.hydra.sweep.dir = f"multirun/{settings['study_name']}"
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{config.hydra.sweep.dir}'")
    continue_unfinished(config)
    return Path(config.hydra.sweep.dir)


class Held(Claims):
    """Claims that always succeed: the study's storage already gives each trial to one process."""

    def take(self, num: int) -> bool:
        return True

    def remove(self) -> None:
        """Remove nothing: other processes may still be running trials."""


class TrialRunner(Sweep):
    """Runs the jobs of a study; reports failure if all trials have ended and none is complete."""

    fruitless = False

    def check_outcomes(self) -> None:
        super().check_outcomes()
        if self.fruitless:
            raise JobsFailed(f"no trial was completed: no run in {self.folder} ended with a finite objective")


class Study:
    """The loop of a study: asks for trials, runs them and reports their results to Optuna.

    Args:
        settings: the settings of the sweeper, ``direction`` resolved.
        runner: runs jobs.
        space: the search space.
        cfg: configuration of the first job.
        goals: the goals of the study.
        url: URL of the storage.
        kept: Optuna's study and storage.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        runner: TrialRunner,
        space: Space,
        cfg: dict[str, Any],
        goals: Goals,
        url: str,
        kept: tuple[Any, Any],
    ):
        self.settings, self.runner, self.space, self.cfg, self.goals = settings, runner, space, cfg, goals
        runner.claims = Held(runner.folder)
        self.url, self.study, self.storage = url, *kept
        self.name = self.study.study_name
        self.replicates = Replicates(settings["replicates"], cfg["seed"], settings["replicates_level"], goals)
        self.queue = Queue(self.study, self.storage, settings, space, runner.folder, self.recover)
        self.failures = 0
        judged_alone = goals.names == (goals.steering,) and settings["replicates"] == 1
        total = None if self.queue.budget == math.inf else int(self.queue.budget) * settings["replicates"]
        runner.tally.ranked, runner.tally.total = judged_alone, total

    def run(self) -> list[Outcome]:
        """Run trials until the budget or the time is spent; return the outcomes of this process's jobs."""
        self.greet()
        ends = time.monotonic() + (self.settings["timeout"] or math.inf)
        try:
            while time.monotonic() < ends and self.failures < (self.settings["max_failures"] or math.inf):
                if not (asked := self.queue.ask(batch_size(self.settings, self.space))):
                    break
                self.run_batch(asked)
                write_results(self.study, self.runner.folder)
        finally:
            write_results(self.study, self.runner.folder)
            self.close()
        print("\n".join(closing_lines(self.study, self.goals.names, self.space)), flush=True)
        return list(self.runner.outcomes.values())

    def greet(self) -> None:
        """Settle the trials of dead processes, and print the notes and the state of the study."""
        with exclusive(self.storage, self.name):
            self.queue.redo_lost()
        done, budget = self.queue.num_finished(), self.queue.budget
        for note in (*self.space.notes(), *notes(self.settings["sampler"], self.space)):
            print(f"study: {note}")
        of = "" if budget == math.inf else f" of {budget}"
        how = f"{done}{of} trials are done" if done or not of else f"{budget} trials"
        print(f"study: {how}, in {self.runner.folder}", flush=True)

    def run_batch(self, asked: Sequence[Asked]) -> None:
        """Run trials and report them. If an exception ends this process, report the finished trials first."""
        untold = {a.number: a for a in asked}
        try:
            for a in asked:
                self.replicates.inherit(a, self.study, self.runner.folder)
            for a, verdict in self.replicates.run(asked, self.launch, self.best_values()):
                self.tell(a, verdict)
                del untold[a.number]
        except BaseException:
            self.tell_or_give_back(list(untold))
            raise

    def launch(self, jobs: list[tuple[int, list[str]]]) -> list[Any]:
        """Run jobs, each with its token, and return their summaries."""
        with showing(self.space.searched()):
            outcomes = self.runner.run_numbered([(num, [*job, *self.token(num, job)]) for num, job in jobs])
        return [outcome.summary for outcome in outcomes]

    def token(self, num: int, job: list[str]) -> list[str]:
        """The override that makes a running trial report its scores to the study; none without a pruner."""
        if self.settings["pruner"] == "none":
            return []
        cfg = self.cfg
        if "epochs" in self.space.domains() or stage_names(cfg["stages"]):
            cfg = last_of(self.space.compositions.plain(job), [*own_searchpath(), *job])
        rule = {"pruner": self.settings["pruner"]} | {k: self.settings[k] for k in RULES}
        direction = self.goals.directions[0]
        return [f"{TRIAL}={Token(self.url, self.name, num, direction, rule, cfg['epochs']).encode()}"]

    def tell(self, asked: Asked, verdict: Verdict) -> None:
        """Report the result of a trial, or abandon it if it was interrupted."""
        if verdict.state == "INTERRUPTED":
            with exclusive(self.storage, self.name):
                self.queue.abandon(asked.number, "interrupted", self.runner.folder)
            return
        self.failures = self.failures + 1 if verdict.state == "FAIL" else 0
        self.write(asked.number, asked.values, verdict)

    def write(self, number: int, values: dict[int, list[float]], verdict: Verdict) -> None:
        """Write the spread, then the verdict: Optuna refuses writes to a finished trial."""
        if self.replicates.num > 1 and values:
            study = self.storage.get_study_id_from_name(self.name)
            trial = self.storage.get_trial_id_from_study_id_trial_number(study, number)
            self.storage.set_trial_user_attr(trial, REPLICATES, self.replicates.describe(values))
            if verdict.state == "PRUNED" and len(verdict.values) == 1:
                self.storage.set_trial_intermediate_value(trial, len(values), verdict.values[0])
        kept = verdict.values if verdict.state == "COMPLETE" else ()
        tell(self.study, number, Verdict(verdict.state, kept))

    def recover(self, number: int, folder: Path) -> bool:
        """Report a trial from its folders if they hold its result; return whether they do."""
        values, verdict = self.replicates.known(number, folder)
        if verdict is not None:
            self.write(number, values, verdict)
        return verdict is not None

    def tell_or_give_back(self, numbers: Sequence[int]) -> None:
        """Before this process ends, report the trials that have a result and abandon the others."""
        with exclusive(self.storage, self.name):
            for number in numbers:
                if not self.recover(number, self.runner.folder):
                    self.queue.abandon(number, "stopped", self.runner.folder)

    def best_values(self) -> dict[int, list[float]]:
        """The values of the best trial by seed; empty unless there is exactly one best trial."""
        best = best_trials(self.study)
        if len(best) != 1 or REPLICATES not in best[0].user_attrs:
            return {}
        values = best[0].user_attrs[REPLICATES]["values"]
        return {int(seed): [value] for seed, value in values.items() if not isinstance(value, list)}

    def close(self) -> None:
        """Tell the runner which jobs to judge (no abandoned ones) and whether any trials are left to run."""
        trials = self.study.get_trials(deepcopy=False)
        counted = [t for t in trials if not is_abandoned(t)]
        given_back = {t.number for t in trials if is_abandoned(t)}
        mine = self.runner.outcomes
        complete = any(t.state.name == "COMPLETE" for t in counted)
        for num in list(mine):
            hidden = complete and mine[num].summary.status in ("pruned", "diverged")
            if num // self.replicates.num in given_back or hidden:
                del mine[num]
        self.runner.fruitless = not complete and all(t.state.is_finished() for t in counted)
        self.runner.whole = len(counted) >= self.queue.budget and all(t.state.is_finished() for t in counted)
