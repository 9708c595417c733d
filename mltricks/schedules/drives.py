"""What drives a hyperparameter: any float may be given as a schedule instead of a number.

``optim.weight_decay={schedule: cosine, start: 5e-4, end: 0}`` follows the shape of ``conf/scheduler/cosine.yaml``, whose
factor 1 stands for ``start`` and whose factor 0 for ``end``; further keys are settings of that schedule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mltricks.config import conf_dir, create, locate
from mltricks.schedules.base import Schedule
from mltricks.schedules.constant import Constant
from mltricks.values import check_value, float_fields, suggest

Drive = Callable[[float], float]
Drives = dict[tuple[str, str], Drive]


def extract_drives(node: dict[str, Any], key: str, allow: list[str]) -> tuple[dict[str, Any], Drives]:
    """Take the schedules out of a node: the node with their first values in their places, and the schedules.

    Raises:
        ValueError: the value is scheduled but is no float, the schedule is unknown, or one of its ends is out of range.
    """
    from mltricks.values import _hints

    node, drives = dict(node), {}
    for name, value in list(node.items()):
        if not isinstance(value, dict) or "schedule" not in value:
            continue
        target = locate(node["_target_"], key, allow)
        if name not in float_fields(target):
            raise ValueError(f"{key}.{name} cannot be scheduled: only {', '.join(float_fields(target))} can.")
        drive = _drive(value, f"{key}.{name}", allow)
        for end in ("start", "end"):
            check_value(f"{key}.{name}.{end}", value[end], _hints(target)[name])
        node[name], drives[key, name] = drive(0.0), drive
    return node, drives


def _drive(value: dict[str, Any], key: str, allow: list[str]) -> Drive:
    for end in ("start", "end"):
        if end not in value:
            raise ValueError(f"{key} is scheduled without {end}. Type {key}={{schedule: {value['schedule']}, start: A, end: B}}.")
    settings = {k: v for k, v in value.items() if k not in ("schedule", "start", "end")}
    shape: Schedule = create({**schedule_defaults(value["schedule"], key), **settings}, key, allow)
    start, end = float(value["start"]), float(value["end"])
    return lambda progress: end + (start - end) * shape(progress)


@functools.cache
def schedule_defaults(name: str, key: str) -> dict[str, Any]:
    """The settings of ``conf/scheduler/<name>.yaml``."""
    from omegaconf import OmegaConf

    folder = conf_dir() / "scheduler"
    options = [path.stem for path in folder.glob("[a-z]*.yaml")]
    if name not in options:
        raise ValueError(f"{key}.schedule={name} is unknown. {suggest(name, options)}")
    merged = OmegaConf.merge(OmegaConf.load(folder / "_warmup.yaml"), OmegaConf.load(folder / f"{name}.yaml"))
    return {str(k): v for k, v in OmegaConf.to_container(merged, resolve=True).items() if k != "defaults"}  # type: ignore[union-attr]


def learning_rate_drives(cfg: dict[str, Any], optim: Any, scheduled: Drives, allow: list[str]) -> Drives:
    """What the ``scheduler`` group drives: the learning rate and, where the schedule says so, the momentum.

    Raises:
        ValueError: the learning rate is driven twice.
    """
    schedule: Schedule = create(cfg["scheduler"], "scheduler", allow)
    if isinstance(schedule, Constant) and schedule.warmup_frac == 0:
        return {}
    if ("optim", "lr") in scheduled:
        raise ValueError("optim.lr is driven twice, by its own schedule and by scheduler. Type scheduler=constant.")
    lr = optim.lr
    drives: Drives = {("optim", "lr"): lambda progress: lr * schedule(progress)}
    if schedule.momentum(0.0) is not None:
        name = next((n for n in ("momentum", "beta1") if hasattr(optim, n)), None)
        if name is None:
            raise ValueError(f"scheduler drives the momentum, and {type(optim).__name__} has none. Type scheduler.cycle_momentum=false.")
        drives["optim", name] = schedule.momentum  # type: ignore[assignment]
    return drives
