"""The folder of the options, and the list of groups."""

from __future__ import annotations

from pathlib import Path

GROUPS = (
    *("data", "model", "objective", "optim", "scheduler", "sampler", "init", "engine", "precision", "tracker", "job"),
    *("augment", "regularizer", "technique", "experiment"),
)
TECHNIQUE_GROUPS = ("augment", "regularizer", "technique")
"""Groups whose options add techniques to the step; several options of one can be chosen."""


def conf_dir() -> Path:
    """The folder ``conf``: inside an installed package, or beside the package in a clone."""
    here = Path(__file__).resolve().parent.parent
    inside = here / "conf"
    return inside if inside.is_dir() else here.parent / "conf"
