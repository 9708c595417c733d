"""Train jobs as one stack; each gets the same output folder, and up to rounding the same result, as it would alone.

A member that diverges, stops early or is pruned leaves the stack, which shrinks. If memory runs out, the remaining
members start again in two halves. If the stack cannot be trained at all, they start again one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from mltricks.launch.job import Job
from mltricks.launch.member import TESTED, Member, enlist, failure, write_unless_full
from mltricks.launch.panel import Panel, rows_of
from mltricks.memory import is_out_of_memory
from mltricks.observers.base import Observer
from mltricks.observers.create import InSweep
from mltricks.predicting import to_predict
from mltricks.process.atomic import first_line
from mltricks.process.interrupt import EXIT_STATUS, Interrupt, stopped_by
from mltricks.session import AFTER, Session
from mltricks.stack.run import StackedRun, stack
from mltricks.state import State, leaves, map_state
from mltricks.summary import Summary, read_summary
from mltricks.train import loop, train

Tell = Callable[[Job, Summary], None]
LONGEST = 64
"""Maximum number of updates between checks for a signal."""


def train_fused(jobs: Sequence[Job], tell: Tell) -> None:
    """Train jobs whose configurations differ only in floats and seeds, all at once.

    Args:
        jobs: at least one job.
        tell: called with each job and its summary as soon as the job has ended.

    Raises:
        SystemExit: a signal interrupted the stack; the exit status is that of a single run. The members that had not
            ended are saved, reported and resumable; a new launch runs them again.
    """
    pending = [list(jobs)]
    while pending:
        group, *pending = pending
        if len(group) == 1:
            train_alone(group[0], tell)
        else:
            pending = [*train_together(group, tell), *pending]


def train_alone(job: Job, tell: Tell) -> None:
    """Train one job by itself, like a run outside a stack."""
    path = job.folder / "summary.json"
    try:
        summary: Summary = train(job.cfg, job.folder, False, job.overrides, InSweep(job.trial, quiet=True))
    except Exception as error:
        found = read_summary(path)
        summary = found if found is not None else failure(job, error)
    tell(job, summary)
    if summary.signal is not None:
        sys.exit(EXIT_STATUS[summary.signal])


def train_together(jobs: Sequence[Job], tell: Tell) -> list[list[Job]]:
    """Train jobs as one stack.

    Returns:
        The groups of jobs to train again; empty if all jobs have ended.
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
    how = f"in stacks of up to {len(groups[-1])}" if len(groups[-1]) > 1 else "one by one"
    print(f"a stack could not be trained; its {len(left)} trials start again {how}: {why}", file=sys.stderr)
    fused.give_back(why)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return groups


def counting(observers: Sequence[Observer]) -> list[Observer]:
    """The observers that override ``step``."""
    return [observer for observer in observers if type(observer).step is not Observer.step]


class Fused:
    """A stack of members with the interface that the loop in ``mltricks.train`` expects.

    Args:
        tell: called with each job that has ended and its summary.
    """

    def __init__(self, tell: Tell):
        self.tell = tell
        self.members: list[Member] = []

    def enlist(self, jobs: Sequence[Job]) -> None:
        """Build every member. An invalid configuration fails only its own job."""
        for job in jobs:
            found = enlist(job, len(jobs), self.members[0].session.run.data if self.members else None)
            if isinstance(found, Member):
                self.members.append(found)
            else:
                self.tell(job, found)

    def train(self, interrupt: Interrupt) -> None:
        """Train until all members have ended or a signal arrives.

        Raises:
            SystemExit: a signal arrived.
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
        """Train up to the next record or checkpoint, at most ``LONGEST`` updates; return the new step."""
        lead, last = self.lead, step + LONGEST
        end = next(i for i in range(step + 1, last + 1) if lead.record_due(i) or lead.save_due(i) or i == last)
        metrics = self.stacked.advance(end - step, step)
        # a CPU-GPU sync point: one copy per call for all members, not one per update
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
        """Whether a checkpoint is due. Validations write none: K files would take longer than a small stack trains."""
        return self.going and self.lead.save_due(step)

    def save(self) -> None:
        """Write every member's checkpoint, from which a single run can resume."""
        self.show()
        for member in self.members:
            member.attempt(member.save)
        self.hide()
        self.release()

    def complete(self) -> None:
        self.mark("completed")

    def validate(self, step: int) -> None:
        """Evaluate all members on the validation split, and release those that stop early or are pruned."""
        self.release_unsound(step)
        if not self.members:
            return
        self.show()
        sessions = [member.session for member in self.members]
        val = sessions[0].run.data.val
        states, stacked = self.to_predict()
        metrics = self.panel.measure(sessions, stacked, val, step, AFTER)
        for member, found, state in zip(self.members, metrics, states, strict=True):
            if member.attempt(member.session.record_validation, step, found, state, member.keep_best):
                member.leaves = "stopped_early"
        going = [m for m in self.members if m.leaves is None and step < m.session.run.total_steps]
        for member in going:
            if member.attempt(member.session.hopeless):
                member.leaves = "pruned"
        self.hide()
        self.release()

    def release_unsound(self, step: int) -> None:
        """Release the members whose losses or weights are no longer finite."""
        self.show()
        params = leaves(self.state()["params"])
        # one reduction and one CPU-GPU sync for all members
        finite = torch.stack([leaf.isfinite().flatten(1).all(1) for leaf in params]).all(0).tolist()
        for member, sound in zip(self.members, finite, strict=True):
            if not sound:
                member.attempt(member.session.ledger.check_finite, step, member.session.run.state["params"])
        self.release()

    def mark(self, status: str) -> None:
        """End all remaining members with this status."""
        for member in self.members:
            member.leaves = member.leaves or status
        self.release()

    def show(self) -> None:
        """Give every run its own state, as a view of the stacked state."""
        rows = rows_of(self.stacked.state)
        for member, at in zip(self.members, self.stacked.rows, strict=True):
            member.session.run.state = rows[at]

    def state(self) -> State:
        """The stacked state of the remaining members: the stack may still carry rows of members that left."""
        state, rows = self.stacked.state, self.stacked.rows
        if len(rows) == len(state["step"]):
            return state
        index = torch.tensor(rows, device=state["step"].device)
        return map_state(lambda t: t.index_select(0, index), state)

    def to_predict(self) -> tuple[list[State], State]:
        """The members' states to evaluate, and the same as one stacked state; requires ``show``."""
        runs = [member.session.run for member in self.members]
        states = [to_predict(run, run.state) for run in runs]
        if states[0] is runs[0].state:  # nothing was re-estimated
            return states, self.state()
        return states, {**self.state(), "buffers": stack([state["buffers"] for state in states])}

    def hide(self) -> None:
        """Drop the runs' states except for the step: views would keep a whole old stacked state in memory."""
        for member in self.members:
            member.session.run.state = {"step": member.session.run.state["step"]}

    def release(self) -> None:
        """Test and close the members that are to leave, and remove their rows from the stack."""
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
        """Evaluate the best weights of members on the test split."""
        if not members:
            return
        sessions = [member.session for member in members]
        best, split = stack([member.best for member in members]), sessions[0].run.data.test
        metrics = self.panel.measure(sessions, best, split, sessions[0].step, AFTER + 1, tested=True)
        for member, found in zip(members, metrics, strict=True):
            member.attempt(member.session.record_test, found, member.leaves)

    def interrupted(self, jobs: Sequence[Job], ended: set[int], error: BaseException) -> None:
        """Write the summaries of the jobs that have not ended, before the process stops at once."""
        built = {member.job.num: member for member in self.members}
        for job in jobs:
            if job.num in ended:
                continue
            if job.num in built:
                built[job.num].session.fail(error)
            else:
                write_unless_full(failure(job, error), job)

    def give_back(self, why: str) -> None:
        """Close the members that have not ended: their jobs start again."""
        for member in self.members:
            member.give_back(why)
        self.members = []
