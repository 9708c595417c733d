"""Checks of all jobs before the first one starts, so that an invalid value is refused before any trial has run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

from mltricks.config.stages import as_typed, stage_names
from mltricks.launch.job import Job
from mltricks.observers.facts import sweep_folder

_CHECKED: set[tuple[str, str]] = set()
"""Pairs of key and value checked in this process. A study launches similar jobs again and again."""
HINT = " For integers type KEY=int(interval(LOW,HIGH))."


def check_jobs(jobs: Sequence[tuple[list[str], dict[str, Any]]]) -> None:
    """Refuse the sweep if one of its jobs is invalid.

    Each class checks its settings, for every job. If jobs differ in model, data or techniques, load the data and check
    that these fit together. Errors that only ``setup`` can find appear when the trial runs.

    Args:
        jobs: overrides and configuration of each job.

    Raises:
        ValueError: a job is invalid; the message names the key, the value and the job's overrides.
    """
    ours = [(job, cfg) for job, cfg in jobs if cfg["job"].get("_target_", "").startswith("mltricks.")]
    shapes = {shape_of(cfg) for _, cfg in ours}
    unseen = shapes if len(shapes) > 1 else set()
    loaded: dict[str, Any] = {}
    for job, cfg in ours:
        try:
            parts = check_parts(cfg)
            if shape_of(cfg) in unseen:
                unseen.discard(shape_of(cfg))
                check_whole(cfg, parts, loaded)
        except ValueError as error:
            hint = HINT if "must be an integer" in str(error) else ""
            raise type(error)(f"{error}{hint}\n(in the job {' '.join(job)}; no trial was started)") from error


def check_values(jobs: Sequence[Job]) -> None:
    """Refuse a launch if a class refuses a value of one of its training jobs.

    A job is checked only if one of its settings has a value that no earlier job had, so a grid costs one check per
    value, not one per combination. All valid seeds count as one value.

    Raises:
        ValueError: a job is invalid; the message names the key, the value and the job's overrides.
    """
    for job in jobs:
        if job.cfg["job"].get("_target_") != "mltricks.jobs.train":
            continue
        pairs = set(settings_of(job.cfg))
        if pairs <= _CHECKED:
            continue
        try:
            for cfg in configurations(job):
                check_parts(cfg)
        except ValueError as error:
            raise type(error)(
                f"{error}\n(in the job {' '.join(map(as_typed, job.overrides))}; no job was started)"
            ) from error
        _CHECKED.update(pairs)


def configurations(job: Job) -> list[dict[str, Any]]:
    """The configurations of the runs of a job: its own, or those of its stages."""
    node = job.cfg["stages"]
    if not stage_names(node):
        return [job.cfg]
    from mltricks.jobs import own_searchpath
    from mltricks.stages.plan import plan

    return [s.cfg for s in plan(node, [*own_searchpath(), *job.overrides], job.folder, sweep_folder(job.folder))]


def settings_of(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting of a configuration with its value as text; all valid seeds have the same text."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from settings_of(value, f"{key}.{name}" if key else str(name))
    else:
        is_seed = key == "seed" and type(node) is int and 0 <= node < 2**32
        yield key, "a seed" if is_seed else repr(node)


def shape_of(cfg: dict[str, Any]) -> str:
    """A key for the settings that decide whether model, data and techniques fit together."""
    names = {name: node.get("_target_") for name, node in cfg["technique"].items() if isinstance(node, dict)}
    return json.dumps([cfg["model"], cfg["data"], cfg["objective"], list(names.items())], sort_keys=True, default=str)


def check_parts(cfg: dict[str, Any]) -> tuple[Any, Any]:
    """Create every object that needs no data, so that its class checks its values; return objective and techniques."""
    from mltricks.compatibility.options import check_engine, check_prediction, check_sampler
    from mltricks.config.create import create, given_target, locate
    from mltricks.config.settings import check_settings
    from mltricks.construct import create_optim, create_techniques
    from mltricks.data.base import DataOption
    from mltricks.schedules.drives import learning_rate_drives

    check_settings(cfg)
    allow = cfg["allow_modules"]
    techniques, _ = create_techniques(cfg, allow)
    optim, drives, _ = create_optim(cfg, allow)
    learning_rate_drives(cfg, optim, drives, allow)
    check_engine(create(cfg["engine"], "engine", allow), optim, techniques)
    objective = create(cfg["objective"], "objective", allow)
    check_sampler(create(cfg["sampler"], "sampler", allow), objective)
    check_prediction(optim, techniques)
    create(cfg["init"], "init", allow)
    check_names(cfg, "model", allow)
    data = locate(given_target(cfg["data"], "data"), "data", allow)
    if isinstance(data, type) and issubclass(data, DataOption):  # creating it loads no data
        create(cfg["data"], "data", allow)
    return objective, techniques


def check_names(cfg: dict[str, Any], key: str, allow: Sequence[str]) -> None:
    """Refuse settings that a class does not accept, without creating an instance."""
    from mltricks.config.create import given_target, locate, refuse_unknown

    target = given_target(cfg[key], key)
    settings = [name for name in cfg[key] if name != "_target_"]
    refuse_unknown(key, target, settings, inspect.signature(locate(target, key, allow)).parameters)


def check_whole(cfg: dict[str, Any], parts: tuple[Any, Any], loaded: dict[str, Any]) -> None:
    """Check that model, objective and techniques fit the data.

    Args:
        cfg: configuration of the job.
        parts: its objective and its techniques.
        loaded: cache of data splits by their settings; this function updates it.
    """
    from mltricks.compatibility.module import check_one_output, check_shapes
    from mltricks.compatibility.options import check_fit
    from mltricks.construct import create_model, load_data
    from mltricks.metrics import create_metrics
    from mltricks.shapes import declared

    name = json.dumps(cfg["data"], sort_keys=True, default=str)
    if name not in loaded:
        loaded.clear()  # keep one data set at a time: two may not fit into memory
        loaded[name] = load_data(cfg, cfg["allow_modules"])
    check_fit(*parts, loaded[name], cfg)
    create_metrics(cfg["metric"], loaded[name].info, parts[0])
    model = create_model(cfg, loaded[name], cfg["seed"], cfg["allow_modules"], parts[0])
    info = loaded[name].info
    check_one_output(parts[1], model, info, parts[0])
    check_shapes(declared(parts[1], info.in_shape), model, info, parts[0])
