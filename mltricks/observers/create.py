"""Creates the observers of a run from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mltricks.config.create import create
from mltricks.observers.base import Observer
from mltricks.observers.console import create_console
from mltricks.observers.early_stopping import EarlyStopping
from mltricks.observers.files import Files


@dataclass(frozen=True)
class InSweep:
    """Settings of the observers of a run that is a job of a sweep.

    Args:
        trial: token by which it reports to a study; empty: no study.
        quiet: whether the run prints nothing, because the sweep prints its progress.
    """

    trial: str = ""
    quiet: bool = False


def new_folder() -> Path:
    """A fresh output folder under ``outputs/``, named by date and time."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")


def create_observers(
    cfg: dict[str, Any], folder: Path, in_sweep: InSweep | None = None, overrides: Sequence[str] = ()
) -> list[Observer]:
    """The configured observers, in the order in which they are called.

    The report comes before the console that names it and the tracker that uploads it.

    Args:
        cfg: the resolved configuration.
        folder: output folder.
        in_sweep: the settings of a trial in a sweep.
        overrides: of the command.

    Raises:
        ValueError: a setting is wrong or has no effect, or a tracker is not installed.
    """
    stopping = cfg["early_stopping"]
    if stopping["min_delta"] and not stopping["patience"]:
        raise ValueError("early_stopping.min_delta has no effect without patience. Type early_stopping.patience=5.")
    observers: list[Observer] = [Files()]
    if stopping["patience"]:
        observers.append(EarlyStopping(stopping["patience"], stopping["min_delta"]))
    observers += trial_observers(in_sweep.trial if in_sweep else "")
    if cfg["plots"] is True or (cfg["plots"] == "auto" and not in_sweep):
        from mltricks.observers.layers import Layers
        from mltricks.observers.report import Report

        observers += [Layers(), Report()]
    console = create_console("none" if in_sweep and in_sweep.quiet else cfg["progress"], overrides)
    observers += [console] if console is not None else []
    if cfg["tracker"].get("_target_"):
        observers.append(create(cfg["tracker"], "tracker", cfg["allow_modules"]))
    return observers


def trial_observers(token: str) -> list[Observer]:
    """A list with the observer that reports to the study of this token; empty if there is none."""
    if not token:
        return []
    from mltricks.observers.trial import TrialObserver
    from mltricks.pruning.reporter import attached

    reporter = attached(token)
    return [TrialObserver(reporter)] if reporter is not None else []
