"""Training jobs as one stack, such that each gets the output folder and, to float rounding, the result it had alone.

A member that diverges, stops early or is given up leaves, and the stack is made smaller. Where memory runs out, the
members that are left begin again in two halves; where a stack cannot be trained at all, one after another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from mltricks.launch.job import Job
from mltricks.launch.member import TESTED, Member, enlist, write_unless_full
from mltricks.launch.panel import Panel, rows_of
from mltricks.memory import is_out_of_memory
from mltricks.observers.base import Observer
from mltricks.observers.create import InSweep
from mltricks.process.atomic import first_line
from mltricks.process.interrupt import EXIT_STATUS, Interrupt, stopped_by
from mltricks.session import AFTER, Session, new_summary, note_failure
from mltricks.stack.run import StackedRun, stack
from mltricks.state import State, leaves, map_state
from mltricks.summary import Summary, read_summary
from mltricks.train import loop, train

Tell = Callable[[Job, Summary], None]
LONGEST = 64
"""Updates after which a signal is noticed at the latest."""


def train_fused(jobs: Sequence[Job], tell: Tell) -> None:
    """Train jobs whose configurations differ in floats and seeds alone, all at once.

    Args:
        jobs: at least one.
        tell: called with every job and its summary, as soon as the job has ended.

    Raises:
        SystemExit: a signal interrupted the stack, with the exit status of a single run. The members that had not
            ended are saved, told and resumable; a new launch does them again.
    """
    pending = [list(jobs)]
    while pending:
        group, *pending = pending
        if len(group) == 1:
            train_alone(group[0], tell)
        else:
            pending = [*train_together(group, tell), *pending]


def train_alone(job: Job, tell: Tell) -> None:
    """Train one job by itself, in the same way as a run that is no part of a stack."""
    path = job.folder / "summary.json"
    try:
        summary = train(job.cfg, job.folder, False, job.overrides, InSweep(job.trial, quiet=True))
    except Exception as error:
        found = read_summary(path)
        summary = found if found is not None else failure(job, error)
    tell(job, summary)
    if summary.signal is not None:
        sys.exit(EXIT_STATUS[summary.signal])


def failure(job: Job, error: BaseException) -> Summary:
    """The summary of a job that failed before it could write one."""
    summary = new_summary(job.folder, job.overrides)
    note_failure(summary, error)
    return summary


def train_together(jobs: Sequence[Job], tell: Tell) -> list[list[Job]]:
    """Train jobs as one stack.

    Returns:
        What is still to be done, and in which groups: nothing, where all went well.
    """
    ended: set[int] = set()

    def tell_once(job: Job, summary: Summary) -> None:
        ended.add(job.num)
        tell(job, summary)

    fused = Fused(tell_once)
    with Interrupt() as interrupt:
        try:
            with interrupt.at_once():
                fused.enlist(jobs)
            fused.train(interrupt)
            return []
        except Exception as error:
            if stopped_by() is not None:
                fused.interrupted(jobs, ended, error)
                raise
            why, memory = first_line(error), is_out_of_memory(error)
        except BaseException as error:
            fused.interrupted(jobs, ended, error)
            raise
    left = [job for job in jobs if job.num not in ended]
    groups = [left[: len(left) // 2], left[len(left) // 2 :]] if memory and len(left) > 1 else [[job] for job in left]
    how = f"begin again {len(groups[-1])} at a time" if len(groups[-1]) > 1 else "are trained one after another"
    print(f"{len(left)} trials that were trained at once {how}: {why}", file=sys.stderr)
    fused.give_back(why)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return groups


def counting(observers: Sequence[Observer]) -> list[Observer]:
    """The observers that want to hear of every step."""
    return [observer for observer in observers if type(observer).step is not Observer.step]


class Fused:
    """The members of a stack, as the loop of ``mltricks.train`` sees them.

    Args:
        tell: called with every job that has ended.
    """

    def __init__(self, tell: Tell):
        self.tell = tell
        self.members: list[Member] = []

    def enlist(self, jobs: Sequence[Job]) -> None:
        """Build every member; one whose configuration is refused fails by itself."""
        for job in jobs:
            found = enlist(job, len(jobs), self.members[0].session.run.data if self.members else None)
            if isinstance(found, Member):
                self.members.append(found)
            else:
                self.tell(job, found)

    def train(self, interrupt: Interrupt) -> None:
        """Train to the end of every member, or until a signal asks to stop.

        Raises:
            SystemExit: a signal did.
        """
        if not self.members:
            return
        runs = [member.session.run for member in self.members]
        self.stacked, self.panel = StackedRun(runs), Panel(runs)
        for member in self.members:
            member.attempt(member.session.start)
        self.hide()
        self.release()
        asked = loop(self, 0, interrupt)
        if asked is not None:
            for member in self.members:
                member.session.summary.signal = asked
            self.mark("interrupted")
            sys.exit(EXIT_STATUS[asked])

    @property
    def going(self) -> bool:
        return bool(self.members)

    @property
    def lead(self) -> Session:
        return self.members[0].session

    def advance(self, step: int) -> int:
        """Train up to the next record or checkpoint; the number of updates made by then."""
        lead, last = self.lead, step + LONGEST
        end = next(i for i in range(step + 1, last + 1) if lead.record_due(i) or lead.save_due(i) or i == last)
        metrics = self.stacked.advance(end - step, step)
        on_host = {name: values.cpu().unbind() for name, values in metrics.items()}
        for k, member in enumerate(self.members):
            member.session.ledger.add({name: rows[k] for name, rows in on_host.items()})
            for observer in counting(member.session.observers):
                for done in range(step + 1, end + 1):
                    observer.step(done)
        return end

    def record(self, step: int) -> None:
        for member in self.members:
            member.attempt(member.session.record_training, step)
        self.release()

    def save_due(self, step: int) -> bool:
        """At validations the best weights stay in memory: K files would take longer than a small stack trains."""
        return self.going and self.lead.save_due(step)

    def save(self) -> None:
        """Write every member's checkpoint, from which it goes on as a run by itself."""
        self.show()
        for member in self.members:
            member.attempt(member.save)
        self.hide()
        self.release()

    def complete(self) -> None:
        self.mark("completed")

    def validate(self, step: int) -> None:
        """Measure all members on the validation split, tell them all, and then ask which of them end here."""
        self.release_unsound(step)
        if not self.members:
            return
        self.show()
        sessions = [member.session for member in self.members]
        val = sessions[0].run.data.val
        metrics = self.panel.measure(sessions, self.state(), val, step, AFTER)
        for member, found in zip(self.members, metrics, strict=True):
            if member.attempt(member.session.record_validation, step, found, member.keep_best):
                member.leaves = "stopped_early"
        going = [m for m in self.members if m.leaves is None and step < m.session.run.total_steps]
        for member in going:
            if member.attempt(member.session.hopeless):
                member.leaves = "pruned"
        self.hide()
        self.release()

    def release_unsound(self, step: int) -> None:
        """Let the members leave that have diverged, by their losses or their weights."""
        self.show()
        params = leaves(self.state()["params"])
        finite = torch.stack([leaf.isfinite().flatten(1).all(1) for leaf in params]).all(0).tolist()
        for member, sound in zip(self.members, finite, strict=True):
            if not sound:
                member.attempt(member.session.ledger.check_finite, step, member.session.run.state["params"])
        self.release()

    def mark(self, status: str) -> None:
        """Let all members that have not ended end in this way."""
        for member in self.members:
            member.leaves = member.leaves or status
        self.release()

    def show(self) -> None:
        """Give every run its own state, as a view."""
        rows = rows_of(self.stacked.state)
        for member, at in zip(self.members, self.stacked.rows, strict=True):
            member.session.run.state = rows[at]

    def state(self) -> State:
        """The stacked state of the members: a stack carries some along that have left."""
        state, rows = self.stacked.state, self.stacked.rows
        if len(rows) == len(state["step"]):
            return state
        index = torch.tensor(rows, device=state["step"].device)
        return map_state(lambda t: t.index_select(0, index), state)

    def hide(self) -> None:
        """Leave the runs only the step of their state: views would keep all of an old stacked state in memory."""
        for member in self.members:
            member.session.run.state = {"step": member.session.run.state["step"]}

    def release(self) -> None:
        """Let the members that have ended leave, each with its output folder; the others move up."""
        leaving = [member for member in self.members if member.leaves is not None]
        if not leaving:
            return
        self.show()
        self.test([member for member in leaving if member.leaves in TESTED])
        for member in leaving:
            member.close()
            self.tell(member.job, member.session.summary)
        rows = [k for k, member in enumerate(self.members) if member.leaves is None]
        self.hide()
        self.members = [self.members[k] for k in rows]
        if rows:
            self.stacked.keep(rows)

    def test(self, members: Sequence[Member]) -> None:
        """Measure the best weights of members on the test split."""
        if not members:
            return
        sessions = [member.session for member in members]
        best, split = stack([member.best for member in members]), sessions[0].run.data.test
        metrics = self.panel.measure(sessions, best, split, sessions[0].step, AFTER + 1, tested=True)
        for member, found in zip(members, metrics, strict=True):
            member.attempt(member.session.record_test, found, member.leaves)

    def interrupted(self, jobs: Sequence[Job], ended: set[int], error: BaseException) -> None:
        """Write what can be written of the jobs that have not ended, when the process is made to stop at once."""
        built = {member.job.num: member for member in self.members}
        for job in jobs:
            if job.num in ended:
                continue
            if job.num in built:
                built[job.num].session.fail(error)
            else:
                write_unless_full(failure(job, error), job)

    def give_back(self, why: str) -> None:
        """Let the members that have not ended finish: they begin again."""
        for member in self.members:
            member.give_back(why)
        self.members = []
