"""The job runner that all our sweepers share: numbered jobs in numbered folders, each launched once.

A sweeper is a program that asks ``Sweep.run`` for the outcomes of jobs. A job whose folder holds a result is not
launched again. So a sweeper that is started again repeats its decisions and resumes where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.launch.tally import Tally, counting
from mltricks.process.atomic import remove_empty, remove_partial
from mltricks.summary import Summary, read_summary
from mltricks.sweep.claims import Claims
from mltricks.sweep.outcome import FINAL, Outcome, refuse_failures
from mltricks.sweep.record import ENDED, FINISHED, RUNNING, Record, read, unfinished

POLL_S = 0.2
"""Seconds between checks for a job that another process runs."""

Numbered = tuple[int, list[str]]


@dataclass(frozen=True)
class Place:
    """Hydra's objects for a sweep.

    Attributes:
        config: configuration of the sweep; jobs are composed from it.
        context: Hydra's context, with the config loader and the callbacks.
        task: the function that runs one job.
        sweeper: name of the sweeper.
        sweeps: the sweeps started with these objects.
    """

    config: Any
    context: Any
    task: Any
    sweeper: str
    sweeps: list[Sweep] = field(default_factory=list)

    def launcher(self) -> Any:
        """The launcher that the configuration names."""
        from hydra.core.plugins import Plugins

        return Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )


def conduct(work: Callable[..., Any], settings: dict[str, Any], place: Place, arguments: list[str]) -> Any:
    """Run a sweeper to its end, and record how its sweeps ended.

    Args:
        work: the function ``sweep`` of the sweeper's module.
        settings, place, arguments: the arguments of ``work``.

    Raises:
        JobsFailed: a job failed or was killed, or none was completed. All other jobs have run.
    """
    finished = stopped = False
    try:
        result = work(settings, place, arguments)
        finished = True
    except (KeyboardInterrupt, SystemExit):
        stopped = True
        raise
    finally:
        for sweep in place.sweeps:
            sweep.end(finished)
            if stopped and (told := sweep.interrupted()):
                print(told, flush=True)
    for sweep in place.sweeps:
        sweep.check_outcomes()
    return result


class Sweep:
    """Launches jobs and reads their outcomes.

    Args:
        place: Hydra's objects for the sweep.

    Attributes:
        folder: folder of the sweep.
        outcomes: the outcomes of all jobs so far, by number.
        tally: the count of its jobs, for the terminal.
        launched: the jobs that this process has launched.
        whole: whether the sweep is complete once all jobs so far have results.

    Raises:
        ValueError: ``hydra.sweep.subdir`` is not the number of the job.
    """

    def __init__(self, place: Place):
        self.place = place
        continue_unfinished(place.config)
        self.folder = Path(place.config.hydra.sweep.dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partial(self.folder, shared=True)
        self.launcher = place.launcher()
        self.record = Record(self.folder, place.sweeper, swept_keys(place.config))
        self.claims = Claims(self.folder)
        self.outcomes: dict[int, Outcome] = {}
        self.tally = Tally()
        self.launched = 0
        self.whole = True
        place.sweeps.append(self)

    def run(self, jobs: Sequence[Sequence[str]], start: int) -> list[Outcome]:
        """Launch the jobs that have no result yet, and return the outcomes of all in order.

        Args:
            jobs: the overrides of each job.
            start: number of the first job; the others follow.

        Raises:
            ValueError: one of the numbers belongs to another job in this folder.
        """
        return self.run_numbered([(num, list(job)) for num, job in enumerate(jobs, start)])

    def run_numbered(self, numbered: Sequence[Numbered]) -> list[Outcome]:
        """Like ``run``, for any job numbers."""
        done = self._known(numbered)
        for num, outcome in done.items():
            self.tally.add(num, outcome.summary, outcome.overrides)
        self.record.begin(self.place.config)
        if done and len(done) < len(numbered):
            print(f"{self.folder}: {len(done)} of {len(numbered)} jobs are done; running the others", flush=True)
        while todo := [(num, job) for num, job in numbered if num not in done]:
            mine = [(num, job) for num, job in todo if self.claims.take(num)]
            done |= self._known(mine)  # another process may have finished one before this process claimed it
            done |= self._launch([(num, job) for num, job in mine if num not in done])
            if len(mine) < len(todo):
                time.sleep(POLL_S)
                done |= self._known([(num, job) for num, job in todo if num not in done])
        self.outcomes |= done
        return [done[num] for num, _ in numbered]

    def known(self, num: int, job: Sequence[str]) -> Outcome | None:
        """The outcome of a job that already has a final result."""
        folder = self.folder / str(num)
        summary = read_summary(folder / "summary.json")
        return Outcome(num, list(job), folder, summary) if summary and summary.status in FINAL else None

    def _known(self, numbered: Sequence[Numbered]) -> dict[int, Outcome]:
        for num, job in numbered:
            check_same(self.folder, num, job)
        return {num: o for num, job in numbered if (o := self.known(num, job)) is not None}

    def _launch(self, todo: Sequence[Numbered]) -> dict[int, Outcome]:
        """Launch jobs. Other launchers count jobs up from a first number: call them once per unbroken range."""
        results = {}
        for num, _ in todo:
            set_aside(self.folder / str(num))
        together = getattr(self.launcher, "launch_numbered", None)
        self.launched += len(todo)
        for chunk in [todo] if together and todo else consecutive(todo):
            first = chunk[0][0]  # other launchers count up from it
            with counting(self.tally):
                returns = together(chunk) if together else self.launcher.launch([job for _, job in chunk], first)
            for (num, job), ret in zip(chunk, returns, strict=True):
                results[num] = self._outcome(num, job, ret)
        return results

    def _outcome(self, num: int, job: list[str], ret: Any) -> Outcome:
        """The outcome of a launched job; writes a summary for a job that failed without writing one."""
        folder = self.folder / str(num)
        error = ret._return_value if isinstance(ret._return_value, BaseException) else None
        summary = read_summary(folder / "summary.json")
        if summary is None and error is not None:
            text = str(error).strip() or type(error).__name__
            summary = Summary("failed", overrides=job, folder=str(folder), error=text)
            summary.write(folder / "summary.json")
        elif summary is None:
            summary = Summary("completed", objective={"name": "returned", "value": ret._return_value})
        return Outcome(num, job, folder, summary)

    def end(self, finished: bool) -> None:
        """Record how the sweep ended. A sweep with interrupted jobs keeps status ``running`` and can be resumed."""
        summaries = [o.summary for o in self.outcomes.values()]
        finished = finished and self.whole and all(s.status in FINAL for s in summaries)
        if finished:
            self.record.begin(self.place.config)
            self.record.end(ENDED if has_page(self.place.config) else FINISHED, summaries)
            self.claims.remove()
        elif not self.outcomes and self.record.take_back():  # a refused command leaves no folder behind
            self.claims.give_back()
            remove_empty(self.folder)
        elif self.record.names is not None:
            self.record.end(RUNNING, summaries)

    def interrupted(self) -> str:
        """What an interrupted sweep says last; empty if the same command would not continue it."""
        if read(self.record.path).get("status") != RUNNING:
            return ""
        final = [read_summary(path) for path in self.folder.glob("*/summary.json") if path.parent.name.isdigit()]
        done = sum(summary is not None and summary.status in FINAL for summary in final)
        of = f" of {self.tally.total}" if self.tally.total else ""
        return f"interrupted: {done}{of} jobs are done; type the same command again to continue"

    def check_outcomes(self) -> None:
        """Report failed and interrupted jobs.

        Raises:
            JobsFailed: a job failed, or none was completed; the message names the jobs and their errors.
        """
        refuse_failures(list(self.outcomes.values()))


def has_page(config: Any) -> bool:
    """Whether a callback writes the sweep's page after the sweep, and then marks the sweep as finished."""
    callbacks = config.hydra.get("callbacks") or {}
    return any(str((node or {}).get("_target_", "")).endswith(".SweepPage") for node in callbacks.values())


def continue_unfinished(config: Any) -> None:
    """If the command names no folder, use that of an unfinished sweep of the same command, if there is one.

    Raises:
        ValueError: ``hydra.sweep.subdir`` is not the number of the job.
    """
    from omegaconf import OmegaConf, read_write

    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    if raw["subdir"] != "${hydra.job.num}":
        raise ValueError(
            f"hydra.sweep.subdir={raw['subdir']}: our sweepers find jobs by their number. Leave it out, or type "
            "hydra/sweeper=basic with it."
        )
    if "${" not in raw["dir"] or (folder := unfinished(raw["dir"])) is None:
        return
    print(f"resuming the stopped sweep in {folder}", flush=True)
    with read_write(config.hydra):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{folder}'")  # jobs are composed with these overrides


def swept_keys(config: Any) -> list[str]:
    """The keys to which the command gives several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def check_same(folder: Path, num: int, job: Sequence[str]) -> None:
    """Refuse a sweep folder in which a job of this number has other overrides.

    Raises:
        ValueError: the overrides differ; the message shows both.
    """
    import yaml

    path = folder / str(num) / ".hydra" / "overrides.yaml"
    if not path.exists():
        return
    there = yaml.safe_load(path.read_text()) or []
    wanted = [override for override in job if not override.startswith("hydra.")]
    if there != wanted:
        made, make = (" ".join(overrides) or "nothing" for overrides in (there, wanted))
        raise ValueError(
            f"hydra.sweep.dir={folder} holds another sweep: its job {num} has the overrides {made}, this command's "
            f"has {make}. Type hydra.sweep.dir=ANOTHER, or leave it out."
        )


def set_aside(folder: Path) -> None:
    """Rename the folder of an interrupted job, so that the job can run again from scratch."""
    if not folder.exists():
        return
    k = 1
    while (aside := folder.with_name(f"{folder.name}.interrupted-{k}")).exists():
        k += 1
    folder.rename(aside)


def consecutive(jobs: Sequence[Numbered]) -> list[list[Numbered]]:
    """Split numbered jobs into runs of consecutive numbers.

    >>> [[n for n, _ in chunk] for chunk in consecutive([(0, []), (1, []), (3, [])])]
    [[0, 1], [3]]
    """
    chunks: list[list[Numbered]] = []
    for job in jobs:
        if chunks and chunks[-1][-1][0] + 1 == job[0]:
            chunks[-1].append(job)
        else:
            chunks.append([job])
    return chunks
