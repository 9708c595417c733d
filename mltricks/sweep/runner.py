"""What our sweepers share: numbered jobs in numbered folders, launched once and never again.

A sweeper is a program that asks ``Sweep.run`` for the outcomes of jobs. The folders are the record: a job whose folder
holds its result is not launched again, so that the same program, run again, goes on where it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.process.atomic import remove_empty, remove_partial
from mltricks.summary import Summary, read_summary
from mltricks.sweep.claims import Claims
from mltricks.sweep.outcome import FINAL, Outcome, refuse_failures
from mltricks.sweep.record import ENDED, FINISHED, RUNNING, Record, unfinished

POLL_S = 0.2
"""Seconds between two looks at whether another process is done with a job."""

Numbered = tuple[int, list[str]]


@dataclass(frozen=True)
class Place:
    """Where a sweep happens, as Hydra gives it.

    Attributes:
        config: of the sweep; jobs are composed from it.
        context: Hydra's, with the loader of configurations and the callbacks.
        task: the function that runs one job.
        sweeper: name of the sweeper.
        sweeps: what has been run here.
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
    """Run a sweeper to its end, and say how the sweep ended.

    Args:
        work: ``sweep`` of the sweeper's module.
        settings, place, arguments: what it takes.

    Raises:
        JobsFailed: a job failed or was killed, or none was completed; the others have run.
    """
    finished = False
    try:
        result = work(settings, place, arguments)
        finished = True
    finally:
        for sweep in place.sweeps:
            sweep.end(finished)
    for sweep in place.sweeps:
        sweep.check_outcomes()
    return result


class Sweep:
    """Launches jobs and reads their outcomes.

    Args:
        place: where the sweep happens.

    Attributes:
        folder: of the sweep.
        outcomes: of all jobs so far, by number.
        whole: whether nothing is left to do, once all jobs so far have their results.

    Raises:
        ValueError: the folders of jobs would not be their numbers.
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
        self.whole = True
        place.sweeps.append(self)

    def run(self, jobs: Sequence[Sequence[str]], start: int) -> list[Outcome]:
        """The outcomes of jobs number ``start`` and after, in order; only those without a result are launched.

        Args:
            jobs: the overrides of each.
            start: number of the first.

        Raises:
            ValueError: the folder holds another job under one of these numbers.
        """
        return self.run_numbered([(num, list(job)) for num, job in enumerate(jobs, start)])

    def run_numbered(self, numbered: Sequence[Numbered]) -> list[Outcome]:
        """As ``run``, for jobs whose numbers need not follow each other."""
        done = self._known(numbered)
        self.record.begin(self.place.config)
        if done and len(done) < len(numbered):
            print(f"{self.folder}: {len(done)} of {len(numbered)} jobs are done, the others follow", flush=True)
        while todo := [(num, job) for num, job in numbered if num not in done]:
            mine = [(num, job) for num, job in todo if self.claims.take(num)]
            done |= self._known(mine)  # another process may have come to its end in between
            done |= self._launch([(num, job) for num, job in mine if num not in done])
            if len(mine) < len(todo):
                time.sleep(POLL_S)
                done |= self._known([(num, job) for num, job in todo if num not in done])
        self.outcomes |= done
        return [done[num] for num, _ in numbered]

    def known(self, num: int, job: Sequence[str]) -> Outcome | None:
        """The outcome of a job that has been run already."""
        folder = self.folder / str(num)
        summary = read_summary(folder / "summary.json")
        return Outcome(num, list(job), folder, summary) if summary and summary.status in FINAL else None

    def _known(self, numbered: Sequence[Numbered]) -> dict[int, Outcome]:
        for num, job in numbered:
            check_same(self.folder, num, job)
        return {num: o for num, job in numbered if (o := self.known(num, job)) is not None}

    def _launch(self, todo: Sequence[Numbered]) -> dict[int, Outcome]:
        """Launch jobs; where numbers do not follow each other, other launchers than ours are called several times."""
        results = {}
        for num, _ in todo:
            set_aside(self.folder / str(num))
        together = getattr(self.launcher, "launch_numbered", None)
        for chunk in [todo] if together and todo else consecutive(todo):
            first = chunk[0][0]  # from which other launchers count up
            returns = together(chunk) if together else self.launcher.launch([job for _, job in chunk], first)
            for (num, job), ret in zip(chunk, returns, strict=True):
                results[num] = self._outcome(num, job, ret)
        return results

    def _outcome(self, num: int, job: list[str], ret: Any) -> Outcome:
        """What became of a job that was launched; one that failed and wrote no summary gets one."""
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
        """Note how the sweep ended; one with jobs that were interrupted can be gone on with."""
        summaries = [o.summary for o in self.outcomes.values()]
        finished = finished and self.whole and all(s.status in FINAL for s in summaries)
        if finished:
            self.record.begin(self.place.config)
            self.record.end(ENDED if has_page(self.place.config) else FINISHED, summaries)
            self.claims.remove()
        elif not self.outcomes and self.record.take_back():  # refused before its first job: a slip leaves nothing
            self.claims.give_back()
            remove_empty(self.folder)
        elif self.record.names is not None:
            self.record.end(RUNNING, summaries)

    def check_outcomes(self) -> None:
        """Refuse to call a sweep a success in which a job failed, or none was completed.

        Raises:
            JobsFailed: names the jobs and their errors.
        """
        refuse_failures(list(self.outcomes.values()))


def has_page(config: Any) -> bool:
    """Whether a callback writes the page at the end, and notes then that nothing is left to do."""
    callbacks = config.hydra.get("callbacks") or {}
    return any(str((node or {}).get("_target_", "")).endswith(".SweepPage") for node in callbacks.values())


def continue_unfinished(config: Any) -> None:
    """Put a sweep that was given no folder into that of the same command's that is not finished, if there is one.

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
    print(f"going on with {folder}, where this command was stopped", flush=True)
    with read_write(config.hydra):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{folder}'")  # every job is composed with it


def swept_keys(config: Any) -> list[str]:
    """The keys that the command gives several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def check_same(folder: Path, num: int, job: Sequence[str]) -> None:
    """Refuse a folder in which a number belongs to a job of another command.

    Raises:
        ValueError: names the job and what differs.
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
            f"hydra.sweep.dir={folder} holds another sweep: job {num} was made there by {made}, and would be made here "
            f"by {make}. Type hydra.sweep.dir=ANOTHER, or leave it out."
        )


def set_aside(folder: Path) -> None:
    """Move what an interrupted job has left out of the way of the one that is run in its place."""
    if not folder.exists():
        return
    k = 1
    while (aside := folder.with_name(f"{folder.name}.interrupted-{k}")).exists():
        k += 1
    folder.rename(aside)


def consecutive(jobs: Sequence[Numbered]) -> list[list[Numbered]]:
    """Cut numbered jobs where a number is left out.

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
