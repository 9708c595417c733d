"""Whether a command may write into its output folder: checked before Hydra leaves its record there."""

from __future__ import annotations

from pathlib import Path

from mltricks.process.atomic import check_alone
from mltricks.resume import check_unused, finished


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse the folder of another run.

    Raises:
        ValueError: another process trains there, or it holds a run that is not to be overwritten.
    """
    check_alone(folder)
    if not overwrite:
        check_unused(folder)


def check_other(folder: Path, job: str) -> None:
    """Refuse the folder of a run to a job that would replace its ``summary.json``.

    Raises:
        ValueError: names the job.
    """
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"{folder} holds a run, whose result job={job} would replace. Type another hydra.run.dir.")


def check_sweep(folder: Path, sweeper: str) -> None:
    """Refuse the folder of a finished sweep to a sweeper that would train its jobs again.

    Raises:
        ValueError: a job there is finished.
    """
    done = next((path for path in sorted(folder.glob("*")) if path.is_dir() and finished(path) is not None), None)
    if done is not None:
        raise ValueError(
            f"hydra.sweep.dir={folder}: {done} is finished, and hydra/sweeper={sweeper} would train it again. Type "
            "another hydra.sweep.dir, or overwrite=true."
        )
