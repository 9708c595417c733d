"""What a Python program gives to ``mltricks.train``: a configuration, and perhaps a model and data of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mltricks.config.create import locate
from mltricks.config.newer import nodes
from mltricks.config.options import called, conf_dir
from mltricks.config.settings import default_options
from mltricks.data import given as given_data
from mltricks.data.custom import RATIO, check_idle
from mltricks.data.splits import DataSplits
from mltricks.models import given as given_model
from mltricks.resume import other_job

CLASSIFY = "mltricks.objectives.classify.Classify"
REGRESS = "mltricks.objectives.regress.Regress"
OF_THE_COMMAND = {
    "resume": "Give the folder: mltricks.train(cfg, folder={!r}, resume=True).",
    "checkpoint": "Load it: mltricks.load({!r}).",
    "input": "Predict with mltricks.load(DIR).predict(x).",
    "show": "Leave it out.",
}
"""Settings that only the command reads, and what a program writes instead."""


@dataclass(frozen=True)
class Given:
    """The objects of a run.

    Attributes:
        model: the module, of which a copy is trained; ``None`` if the configuration names one.
        data: the splits; ``None`` if the configuration names them.
        messages: what followed from the objects, for the user.
    """

    model: nn.Module | None = None
    data: DataSplits | None = None
    messages: list[str] = field(default_factory=list)


def with_objects(cfg: dict[str, Any], model: Any, data: Any) -> tuple[dict[str, Any], Given]:
    """Convert objects, and make the configuration say that they were given.

    The default objective, ``classify``, gives way to ``regress`` for float targets; any other that does not fit is
    refused when the run is built.

    Raises:
        ValueError: an object cannot be used, or a setting of the configuration would have no effect on it.
    """
    messages: list[str] = []
    if model is not None:
        check_model_idle(cfg.get("model") or {})
        cfg = {**cfg, "model": given_model.node_of(model)}
    if data is None:
        return cfg, Given(model)
    splits = given_data.splits_of(data)
    check_idle({key: value for key, value in cfg["data"].items() if splits.unlabeled is None or key != RATIO})
    target = splits.info.target
    if cfg["objective"]["_target_"] == CLASSIFY and takes(REGRESS, target) and not takes(CLASSIFY, target):
        cfg = {**cfg, "objective": {"_target_": REGRESS}}
        messages.append("objective=regress: the targets are floats")
    return {**cfg, "data": given_data.node_of(splits, cfg["data"])}, Given(model, splits, messages)


def check_model_idle(node: dict[str, Any]) -> None:
    """Refuse a model that the configuration chooses or sets beside a given one.

    Raises:
        ValueError: names the settings without effect.
    """
    name = default_options()["model"]
    default, target = next(nodes(conf_dir() / "model" / f"{name}.yaml")), node.get("_target_")
    if target in (None, f"{given_model.__name__}.{given_model.Given.__name__}"):
        return
    idle = [f"model.{key}={value}" for key, value in node.items() if default.get(key) != value]
    fix = "Leave it out of the configuration."
    if target != default["_target_"]:
        idle = [f"model={called({'_target_': target})}"]
        fix = f"Leave it out, or add model={name} if an experiment chooses it."
    if idle:
        raise ValueError(f"{', '.join(idle)} has no effect: the run trains the module that it was given. {fix}")


def takes(objective: str, target: str) -> bool:
    """Whether an objective of mltricks, given by its path, takes a kind of target."""
    return target in locate(objective, "objective", []).targets


def check_job(cfg: dict[str, Any]) -> None:
    """Refuse what is no configuration of a training run: one of a built-in job other than ``train``, or with settings
    that only the command reads. A user's own job may train.

    Raises:
        ValueError: names the job's function, or the setting.
    """
    if "job" not in cfg:
        raise ValueError("this is no whole configuration. Give the result of mltricks.compose([...]).")
    if job := other_job(cfg):
        raise ValueError(f"this configuration belongs to a job that does not train ({job}). Compose it without job=.")
    for key, instead in OF_THE_COMMAND.items():
        if cfg.get(key):
            raise ValueError(f"{key}={cfg[key]} has no effect on mltricks.train. {instead.format(cfg[key])}")
