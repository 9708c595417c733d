"""What ``job=`` can be: each is a function of the configuration, the output folder, the overrides and Hydra's mode."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mltricks.interrupt import EXIT_STATUS


def train(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float | None:
    """Train; the value a sweeper optimises."""
    from mltricks.train import train as run_training

    if cfg.show:
        return show(cfg)
    resume = cfg.resume is not None
    if resume:
        from mltricks.resume import resumed_config

        cfg = resumed_config(cfg, overrides)
    summary = run_training(cfg, folder, resume, overrides)
    if summary.signal is not None:
        sys.exit(EXIT_STATUS[summary.signal])
    return summary.objective["value"]
