"""Which observers a run has."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from mltricks.config import create
from mltricks.observers.base import Observer
from mltricks.observers.files import Files


def new_folder() -> Path:
    """A fresh output folder under ``outputs/``, named by date and time."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")


def create_observers(cfg: dict[str, Any], folder: Path) -> list[Observer]:
    """The observers that the configuration asks for, in the order in which they are told."""
    observers: list[Observer] = [Files()]
    if cfg["tracker"].get("_target_"):
        observers.append(create(cfg["tracker"], "tracker", cfg["allow_modules"]))
    return observers
