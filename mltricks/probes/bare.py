"""A run without regularisation: no techniques, no weight decay, no dropout in the model."""

from __future__ import annotations

from typing import Any

from torch import nn

from mltricks.build import Run, build

NEEDED = ("loss_scale",)
"""Techniques that a bare run keeps, because ``precision`` needs them; they do not regularise."""


def bare_config(cfg: dict[str, Any]) -> dict[str, Any]:
    """The same configuration without augmentation, regularisation, techniques, weight decay and schedule.

    Args:
        cfg: the resolved configuration as nested dicts; it is not changed.
    """
    techniques = {name: node for name, node in cfg["technique"].items() if name in NEEDED}
    optim = dict(cfg["optim"])
    if optim.get("weight_decay"):  # null means the class's default, which is unknown here
        optim["weight_decay"] = 0.0
    if optim.get("groups"):
        optim["groups"] = {pattern: without_decay(floats) for pattern, floats in optim["groups"].items()}
    data = cfg["data"]
    if data.get("unlabeled_ratio"):
        data = {**data, "unlabeled_ratio": 0, **({"unlabeled_from": "all"} if "unlabeled_from" in data else {})}
    return {**constant_rate(cfg), "technique": techniques, "optim": optim, "data": data}


def without_decay(floats: Any) -> Any:
    """The floats of a parameter group with a weight decay of 0, if they name one; anything else as it is."""
    return {**floats, "weight_decay": 0.0} if isinstance(floats, dict) and "weight_decay" in floats else floats


def constant_rate(cfg: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with a constant learning rate."""
    constant = {"_target_": "mltricks.schedules.constant.Constant", "warmup_frac": 0.0, "warmup_start": 0.0}
    return {**cfg, "scheduler": constant}


def bare_run(cfg: dict[str, Any]) -> Run:
    """A run of ``bare_config``, with dropout in the model off."""
    run = build(bare_config(cfg))
    for module in run.model.module.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return run
