"""A job of a sweep, composed: all that is needed to run it, here or in another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Job:
    """One job; it can be pickled.

    Attributes:
        num: its number in the sweep, from 0.
        overrides: that make it, without those of ``hydra.*``.
        cfg: its configuration, resolved, as nested dicts.
        folder: its output folder.
        hydra: makes Hydra's side of its configuration: ``hydra.config(folder)`` is the whole, with the node ``hydra``,
            as a DictConfig; a ``mltricks.launch.patched.Patch``.
        trial: token by which it reports to a study; empty: none listens.
    """

    num: int
    overrides: list[str]
    cfg: dict[str, Any]
    folder: Path
    hydra: Any
    trial: str = ""
