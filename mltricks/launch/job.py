"""A composed job of a sweep: everything needed to run it, in this process or another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Job:
    """One job; it can be pickled.

    Attributes:
        num: its number in the sweep, from 0.
        overrides: the overrides that define it, without those of ``hydra.*``.
        cfg: its resolved configuration, as nested dicts.
        folder: its output folder.
        hydra: a ``mltricks.launch.patched.Patch``; ``hydra.config(folder)`` is the whole configuration, with the node
            ``hydra``, as a DictConfig.
        trial: token with which it reports to a study; empty outside a study.
    """

    num: int
    overrides: list[str]
    cfg: dict[str, Any]
    folder: Path
    hydra: Any
    trial: str = ""
