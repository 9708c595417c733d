"""The page of a run of stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mltricks.stages.plan import Stage
from mltricks.summary import Summary


def write_page(folder: Path, summary: Summary, stages: Sequence[Stage]) -> None:
    """Write ``report.html``."""
