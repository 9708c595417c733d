"""What a run is, as values by name: the facts of its header, for the tables of trackers."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mltricks.artifacts import is_artifact
from mltricks.config.options import called
from mltricks.config.stages import LIST, as_typed
from mltricks.evaluate import steered_by

if TYPE_CHECKING:
    from mltricks.build import Run


def facts(run: Run) -> dict[str, Any]:
    """Split sizes, options, parameters, device, arithmetic, and the score that steers the run, by name."""
    cfg, data, info = run.cfg, run.data, run.data.info
    shape = info.in_shape
    device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device)
    score = steered_by(run)
    return {
        **{name: called(cfg[name]) for name in ("data", "model", "objective", "optim", "scheduler", "engine")},
        "techniques": "+".join(run.techniques) or "none",
        "train_samples": len(data.train),
        "val_samples": len(data.val),
        "test_samples": len(data.test),
        "sample_shape": "x".join(map(str, shape)) if not isinstance(shape, dict) else str(dict(shape)),
        "target": info.target,
        "num_outputs": info.num_outputs,
        "parameters": sum(p.numel() for p in run.state["params"].values()),
        "trained_parameters": run.num_params,
        "steps_per_epoch": run.source.steps_per_epoch,
        "total_steps": run.total_steps,
        "device": device,
        "threads": torch.get_num_threads() if run.device.type == "cpu" else None,
        "precision": cfg["precision"]["dtype"],
        "score": f"val/{score.score}",
        "goal": "maximize" if score.higher_is_better else "minimize",
    }


def inputs(node: Any) -> list[str]:
    """The artifacts that a configuration names, such as the weights that a run starts from."""
    if isinstance(node, dict | list):
        parts = node.values() if isinstance(node, dict) else node
        return list(dict.fromkeys(name for part in parts for name in inputs(part)))
    return [node] if is_artifact(node) else []


def sweep_folder(folder: Path) -> Path | None:
    """The folder of the sweep that an output folder belongs to: the one in which Hydra left ``multirun.yaml``."""
    return next((parent for parent in list(folder.resolve().parents)[:4] if (parent / "multirun.yaml").is_file()), None)


def run_name(name: Any, folder: Path, sweep: Path | None) -> str:
    """The name of a run: the key ``name``, or else that of its folder; trials of a sweep have their number in it."""
    number = f"{int(folder.name):03d}" if folder.name.isdigit() else folder.name
    if sweep is not None:
        return number if name is None else f"{name} {number}"
    return dated(folder) if name is None else str(name)


def dated(folder: Path) -> str:
    """The name of a folder, with the date if its parent is one."""
    parent = folder.resolve().parent.name
    return f"{parent} {folder.name}" if len(parent) == 10 and parent.replace("-", "").isdigit() else folder.name


def swept(folder: Path) -> dict[str, Any]:
    """The values that the sweep gave this trial and that are not the same in all trials, by dotted key.

    They are the trial's overrides that the sweep's own command does not have. The folder may be that of a stage of the
    trial; a stage that several trials share has none.
    """
    sweep, trial = sweep_folder(folder), folder.parent if (folder.parent / LIST).is_file() else folder
    mine = trial / ".hydra" / "overrides.yaml"
    if sweep is None or not mine.is_file():
        return {}
    shared = command_of(sweep / "multirun.yaml")
    own = pairs(read_yaml(mine) or [])
    return {key: value for key, value in own.items() if key not in shared or shared[key] != value}


@functools.cache
def command_of(path: Path) -> dict[str, Any]:
    """The overrides of a sweep's command, from Hydra's record; cached, since all trials of a process ask."""
    return pairs(read_yaml(path).get("hydra", {}).get("overrides", {}).get("task", ()))


def pairs(overrides: Iterable[Any]) -> dict[str, Any]:
    """Keys and values of overrides as they are typed, without Hydra's own."""
    split = [as_typed(str(override)).lstrip("+~").partition("=")[::2] for override in overrides]
    return {key: value_of(text) for key, text in split if not key.startswith(("hydra.", "hydra/"))}


def read_yaml(path: Path) -> Any:
    import yaml

    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def value_of(text: str) -> Any:
    """An override's value: a number where it is one, so that it has an axis of its own.

    >>> value_of("1e-3"), value_of("16"), value_of("mixup"), value_of("True"), value_of("'a b'")
    (0.001, 16, 'mixup', True, 'a b')
    """
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return {"true": True, "false": False, "null": None}.get(text.lower(), text.strip("'\""))
