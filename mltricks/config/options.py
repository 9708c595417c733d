"""Where the options lie, and which groups of them there are."""

from __future__ import annotations

from pathlib import Path

GROUPS = (
    *("data", "model", "objective", "optim", "scheduler", "sampler", "init", "engine", "precision", "tracker", "job"),
    *("augment", "regularizer", "technique", "experiment"),
)


def conf_dir() -> Path:
    """The folder of the configuration: inside the installed package, or beside it in a clone."""
    here = Path(__file__).resolve().parent.parent
    inside = here / "conf"
    return inside if inside.is_dir() else here.parent / "conf"
