"""Which observers a run has."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from mltricks.create import create
from mltricks.observers.base import Observer
from mltricks.observers.console import create_console
from mltricks.observers.early_stopping import EarlyStopping
from mltricks.observers.files import Files


def new_folder() -> Path:
    """A fresh output folder under ``outputs/``, named by date and time."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")


def create_observers(cfg: dict[str, Any], folder: Path) -> list[Observer]:
    """The observers that the configuration asks for, in the order in which they are told: plots come before uploads.

    Raises:
        ValueError: a setting is wrong or has no effect, or a tracker is not installed.
    """
    stopping, console = cfg["early_stopping"], create_console(cfg["progress"])
    if stopping["min_delta"] and not stopping["patience"]:
        raise ValueError("early_stopping.min_delta has no effect without patience. Type early_stopping.patience=5.")
    observers: list[Observer] = [Files()]
    if console is not None:
        observers.append(console)
    if stopping["patience"]:
        observers.append(EarlyStopping(stopping["patience"], stopping["min_delta"]))
    if cfg["plots"]:
        from mltricks.observers.report import Report

        observers.append(Report())
    if cfg["tracker"].get("_target_"):
        observers.append(create(cfg["tracker"], "tracker", cfg["allow_modules"]))
    return observers
