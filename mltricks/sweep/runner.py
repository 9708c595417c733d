"""What our sweepers share: numbered jobs in numbered folders, launched once and never again.

A sweeper is a program that asks ``Sweep.run`` for the outcomes of jobs. The folders are the record: a job whose folder
holds its result is not launched again, so that the same program, run again, goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltricks.summary import Summary, read_summary

FINAL = ("completed", "stopped_early", "pruned", "diverged", "failed")
"""How a job can end that need not be run again."""


@dataclass(frozen=True)
class Place:
    """Where a sweep happens, as Hydra gives it.

    Attributes:
        config: of the sweep; jobs are composed from it.
        context: Hydra's, with the loader of configurations and the callbacks.
        task: the function that runs one job.
        sweeper: name of the sweeper.
    """

    config: Any
    context: Any
    task: Any
    sweeper: str

    def launcher(self) -> Any:
        """The launcher that the configuration names."""
        from hydra.core.plugins import Plugins

        return Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        num: its number in the sweep.
        overrides: that made it.
        folder: its output folder.
        summary: the content of its ``summary.json``; of a job that wrote none, one that says ``failed`` and why.
    """

    num: int
    overrides: list[str]
    folder: Path
    summary: Summary


class Sweep:
    """Launches jobs and reads their outcomes.

    Args:
        place: where the sweep happens.
    """

    def __init__(self, place: Place):
        from omegaconf import OmegaConf

        self.place, self.launcher = place, place.launcher()
        self.folder = Path(place.config.hydra.sweep.dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(place.config, self.folder / "multirun.yaml")

    def run(self, jobs: Sequence[Sequence[str]], start: int) -> list[Outcome]:
        """The outcomes of jobs number ``start`` and after, in order; only those without a result are launched.

        Args:
            jobs: the overrides of each.
            start: number of the first.
        """
        numbered = list(enumerate(jobs, start))
        done = {num: o for num, job in numbered if (o := self.known(num, job)) is not None}
        todo = [(num, list(job)) for num, job in numbered if num not in done]
        for num, result in self._launch(todo):
            done[num] = result
        return [done[num] for num, _ in numbered]

    def known(self, num: int, job: Sequence[str]) -> Outcome | None:
        """The outcome of a job that has been run already."""
        folder = self.folder / str(num)
        summary = read_summary(folder / "summary.json")
        return Outcome(num, list(job), folder, summary) if summary and summary.status in FINAL else None

    def _launch(self, todo: list[tuple[int, list[str]]]) -> list[tuple[int, Outcome]]:
        """Launch jobs; numbers that do not follow each other go in several calls, as launchers count up from one."""
        results = []
        for chunk in consecutive(todo):
            first = chunk[0][0]
            returns = self.launcher.launch([job for _, job in chunk], initial_job_idx=first)
            for (num, job), ret in zip(chunk, returns, strict=True):
                results.append((num, self._outcome(num, job, ret)))
        return results

    def _outcome(self, num: int, job: list[str], ret: Any) -> Outcome:
        folder = self.folder / str(num)
        error = ret._return_value if isinstance(ret._return_value, BaseException) else None
        summary = read_summary(folder / "summary.json")
        if summary is None:
            value = None if error is not None else ret._return_value
            status = "failed" if error is not None else "completed"
            summary = Summary(
                status, objective={"name": "returned", "value": value}, error=str(error) if error else None
            )
        return Outcome(num, job, folder, summary)


def consecutive(jobs: Sequence[tuple[int, list[str]]]) -> list[list[tuple[int, list[str]]]]:
    """Cut numbered jobs where a number is left out.

    >>> [[n for n, _ in chunk] for chunk in consecutive([(0, []), (1, []), (3, [])])]
    [[0, 1], [3]]
    """
    chunks: list[list[tuple[int, list[str]]]] = []
    for job in jobs:
        if chunks and chunks[-1][-1][0] + 1 == job[0]:
            chunks[-1].append(job)
        else:
            chunks.append([job])
    return chunks
