"""Folders of runs for the tests of ``job=compare``: real ones, and records that say what a test needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "model": {"_target_": "mltricks.models.mlp.MLP", "width": 8},
    "objective": {"_target_": "mltricks.objectives.classify.Classify"},
    "data": {"_target_": "mltricks.data.digits.Digits", "val_frac": 0.1, "limit": None, "root": "data"},
    "optim": {"_target_": "mltricks.optim.adamw.AdamW", "lr": 0.003, "beta1": 0.9},
    "objective_metric": None,
    "seed": 0,
    "epochs": 2,
    "technique": {},
}


def record(
    folder: Path, changes: dict[str, Any] | None = None, val: float = 0.9, test: float = 0.9, **summary: Any
) -> Path:
    """Write the record of a run: the configuration with changes at dotted keys, and a summary, if ``status``."""
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(CONFIG))
    for key, value in (changes or {}).items():
        *groups, last = key.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    at = [(epoch, split) for epoch in (1, 2) for split in ("train", "val")]
    lines = [{"step": 10 * e, "epoch": e, "split": s, "loss": 1 / e, "accuracy": val} for e, s in at]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = {
        "status": "completed",
        "seconds": 2.0,
        "val": {"accuracy": val, "loss": 0.3},
        "test": {"accuracy": test, "loss": 0.4},
        "epoch_of": {"train": 2, "val": 1, "test": 1},
        "objective": {"name": "val/accuracy", "value": val, "direction": "maximize"},
        "samples": {"train": 100, "val": 10, "test": 50},
        "num_params": 1234,
        "overrides": [],
    } | summary
    if content["status"]:
        (folder / "summary.json").write_text(json.dumps(content))
    return folder
