"""What drives a hyperparameter: any float may be given as a schedule instead of a number.

``optim.weight_decay={schedule: cosine, start: 5e-4, end: 0}`` follows the shape of ``conf/scheduler/cosine.yaml``,
whose factor 1 stands for ``start`` and whose factor 0 for ``end``; further keys are settings of that schedule. A shape
that rises first (a warm-up, ``onecycle``) therefore begins at or near ``end``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any

from mltricks.config.create import create, locate
from mltricks.config.options import conf_dir, option_of
from mltricks.config.values import check_value, float_fields, kinds_and_range, suggest
from mltricks.schedules.base import Drive, Schedule
from mltricks.schedules.constant import Constant

Drives = dict[tuple[str, str], Drive]
CHECKED_POINTS = 1000


def extract_drives(node: dict[str, Any], key: str, allow: Sequence[str]) -> tuple[dict[str, Any], Drives]:
    """Take the schedules out of a node: the node with their first values in their places, and the schedules.

    Raises:
        ValueError: the value is scheduled but is no float, the schedule is unknown, or it leaves the allowed range.
    """
    node, drives = dict(node), {}
    for name, value in list(node.items()):
        if not isinstance(value, dict) or "schedule" not in value:
            continue
        target = locate(node["_target_"], key, allow)
        known = float_fields(target)
        if name not in known:
            raise ValueError(
                f"{key}.{name} cannot be scheduled: only {', '.join(known) or 'floats'} can. Type a plain value."
            )
        drive = _drive(value, f"{key}.{name}", known[name], allow)
        node[name], drives[key, name] = drive(0.0), drive
    return node, drives


def _drive(value: dict[str, Any], key: str, hint: Any, allow: Sequence[str]) -> Drive:
    name = value["schedule"]
    for point in ("start", "end"):
        if point not in value:
            raise ValueError(f"{key} is scheduled without {point}. Type {key}={{schedule: {name}, start: A, end: B}}.")
        check_value(f"{key}.{point}", value[point], _closed(hint))
    settings = {k: v for k, v in value.items() if k not in ("schedule", "start", "end")}
    shape: Schedule = create({**schedule_defaults(str(name), key), **settings}, key, allow, "scheduler")
    drive = shape.between(float(value["start"]), float(value["end"]))
    for i in range(CHECKED_POINTS):  # a run ends before progress 1, so an end may lie on the border of an open range
        check_value(f"{key} at {i / CHECKED_POINTS:.1%} of its schedule", drive(i / CHECKED_POINTS), hint)
    return drive


def _closed(hint: Any) -> Any:
    """The same hint for a plain number, with the ends of its range included."""
    bounds = kinds_and_range(hint)[1]
    return float if bounds is None else Annotated[float, dataclasses.replace(bounds, above=False, below=False)]


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


def follows_score(cfg: dict[str, Any]) -> str | None:
    """The first setting of a configuration whose schedule follows the validation score; ``None`` without one."""
    allow = cfg["allow_modules"]
    if getattr(locate(str(cfg["scheduler"]["_target_"]), "scheduler", allow), "follows_score", False):
        return "scheduler"
    nodes = {"optim": cfg["optim"], **{f"technique.{name}": node for name, node in cfg["technique"].items()}}
    for owner, node in nodes.items():
        for name, value in node.items():
            if isinstance(value, dict) and "schedule" in value:
                key = f"{owner}.{name}"
                target = schedule_defaults(str(value["schedule"]), key)["_target_"]
                if getattr(locate(target, key, allow, "scheduler"), "follows_score", False):
                    return key
    return None


def learning_rate_drives(
    cfg: dict[str, Any],
    optim: Any,
    scheduled: Drives,
    allow: Sequence[str],
    total_steps: int = 1,
    steps_per_epoch: int = 1,
) -> Drives:
    """What the ``scheduler`` group drives: the learning rate and, where the schedule says so, the momentum.

    Args:
        cfg: the resolved configuration.
        optim: the optimiser.
        scheduled: what its own settings schedule.
        allow: packages besides mltricks and torch that may be named.
        total_steps: length of the run.
        steps_per_epoch: updates an epoch.

    Raises:
        ValueError: the learning rate or the momentum is driven twice, or there is no momentum to drive.
    """
    schedule: Schedule = create(cfg["scheduler"], "scheduler", allow)
    if not isinstance(schedule, Schedule):
        raise ValueError(
            f"scheduler._target_ gives a {type(schedule).__name__}, no schedule. Derive the class from "
            "mltricks.schedules.base.Schedule, or type scheduler=torch scheduler.name=CLASS."
        )
    check_undriven(optim, schedule, scheduled)
    if isinstance(schedule, Constant) and schedule.warmup_frac == 0:
        return {}
    drives: Drives = {}
    rates = {name: getattr(optim, name) for name in getattr(type(optim), "learning_rates", ("lr",))}
    rates |= getattr(optim, "group_rates", {})
    for name in (name for name in rates if name not in getattr(optim, "constant_rates", ())):
        if ("optim", name) in scheduled:
            raise ValueError(
                f"optim.{name} is driven twice, by its own schedule and by scheduler. Type scheduler=constant."
            )
        drives["optim", name] = schedule.drive(rates[name], total_steps, steps_per_epoch)
    if schedule.momentum(0.0) is not None:
        drives["optim", _momentum_of(optim, scheduled, cfg["optim"])] = schedule.momentum  # type: ignore[assignment]
    return drives


def check_undriven(optim: Any, schedule: Schedule, scheduled: Drives) -> None:
    """Refuse schedules of floats that an optimiser needs to be constant.

    Raises:
        ValueError: names the float and the fix.
    """
    undriven = getattr(type(optim), "undriven", ())
    for name in undriven:
        if ("optim", name) in scheduled:
            raise ValueError(f"optim.{name} cannot be scheduled with optim={option_of('optim', optim)}. Type a number.")
    if "lr" in undriven and not isinstance(schedule, Constant):
        raise ValueError(
            f"scheduler={option_of('scheduler', schedule)} changes the learning rate, and "
            f"optim={option_of('optim', optim)} replaces the schedule by an average of weights. Type "
            "scheduler=constant; scheduler.warmup_frac=0.05 with it warms up."
        )


def _momentum_of(optim: Any, scheduled: Drives, node: dict[str, Any]) -> str:
    """The field of an optimiser, of which the configuration has this node, that a schedule drives as its momentum."""
    name = next((n for n in ("momentum", "beta1") if n in float_fields(type(optim))), None)
    if name is None:
        raise ValueError(
            f"scheduler drives the momentum, and optim={option_of('optim', optim)} has none. "
            "Type scheduler.cycle_momentum=false."
        )
    if ("optim", name) in scheduled:
        raise ValueError(
            f"optim.{name} is driven twice, by its own schedule and by scheduler. Type scheduler.cycle_momentum=false."
        )
    if node.get("coordinates") == "decoupled" and name == getattr(type(optim), "accumulates", ""):
        raise ValueError(
            f"scheduler drives optim.{name}, and with optim.coordinates=decoupled the learning rate follows from "
            "its one value. Type scheduler.cycle_momentum=false."
        )
    return name
