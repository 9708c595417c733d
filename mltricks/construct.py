"""The parts of a run, created from its configuration: data, source, techniques, model."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.compatibility.options import check_optim, check_sampler
from mltricks.config.create import create, locate
from mltricks.data import custom
from mltricks.data.info import Info
from mltricks.data.source import Source, in_order
from mltricks.data.splits import DataSplits
from mltricks.optim import coordinates
from mltricks.process.atomic import first_line
from mltricks.schedules.drives import Drives, extract_drives
from mltricks.state import INIT, ORDER, fold, map_state, reseed
from mltricks.step import (
    Techniques,
    normalized,
)


def make_source(cfg: dict[str, Any], data: DataSplits, objective: Any) -> Source:
    """The stream of training batches, ordered by the configured sampler."""
    sampler = create(cfg["sampler"], "sampler", cfg["allow_modules"])
    check_sampler(sampler, objective)
    return Source(
        data.train,
        sampler,
        cfg["batch_size"],
        fold(cfg["seed"], ORDER),
        cfg["data"].get("drop_last", True),
        data.unlabeled,
        cfg["data"].get("unlabeled_ratio", 0),
        cfg["epochs"],
        cfg["max_steps"],
        cfg["data"].get("epoch_size"),
    )


def create_techniques(cfg: dict[str, Any], allow: list[str]) -> tuple[Techniques, Drives]:
    """The techniques in order, and the schedules of their floats."""
    techniques: Techniques = {}
    drives: Drives = {}
    for name, node in cfg["technique"].items():
        if name in ("technique", "_target_"):
            raise ValueError(
                "a file of a technique does not begin with the line # @package _global_. Put that line first, above "
                "every other comment."
            )
        if not isinstance(node, dict) or "_target_" not in node:
            raise ValueError(
                f"technique.{name} is set, but technique={name} is not chosen, so it has no effect. "
                f"Type technique={name}, or technique=...+{name} if there are others."
            )
        node, own = extract_drives(node, f"technique.{name}", allow)
        techniques[name] = create(node, f"technique.{name}", allow)
        drives |= {(name, setting): drive for (_, setting), drive in own.items()}
    return techniques, drives


def create_optim(cfg: dict[str, Any], allow: list[str]) -> tuple[Any, Drives, list[str]]:
    """The optimiser, the schedules of its floats, and a line for the user where its values are not those typed."""
    node = cfg["optim"]
    check_optim(node, allow)
    plain = coordinates.plain(node, locate(node["_target_"], "optim", allow), cfg["batch_size"])
    made, drives = extract_drives(plain, "optim", allow)
    return create(made, "optim", allow), drives, coordinates.said(node, plain, cfg["batch_size"])


def load_data(cfg: dict[str, Any], allow: list[str]) -> DataSplits:
    """Load the data splits that ``cfg.data`` describes."""
    return custom.load_data(cfg["data"], allow)


def create_model(
    cfg: dict[str, Any],
    data: DataSplits,
    seed: int,
    allow: list[str],
    objective: Any,
    batch: Batch | None = None,
    messages: list[str] | None = None,
    given: nn.Module | None = None,
) -> nn.Module:
    """The model, initialised from the run's seed.

    Args:
        cfg, data, seed, allow, objective: of the run.
        batch: a normalised batch for an initialiser whose call names ``batch``, moved to the CPU, where the model is.
            ``None`` takes the first samples of the data.
        messages: list to which the initialiser's message is appended.
        given: the model where a program gave it; a copy is initialised.
    """
    reseed(fold(seed, INIT))
    model = make_model(cfg["model"], data.info, allow, objective, given)
    init, more = create(cfg["init"], "init", allow), {}
    if "batch" in inspect.signature(init).parameters:
        batch = (
            normalized(next(in_order(data.train, cfg["batch_size"])), data.info.normalize) if batch is None else batch
        )
        more = {"batch": map_state(Tensor.cpu, batch)}
    reseed(fold(seed, INIT, 1))
    note = init(model, **more)
    if note is not None and messages is not None:
        messages.append(note)
    return model


def make_model(
    node: dict[str, Any], info: Info, allow: list[str], objective: Any, given: nn.Module | None = None
) -> nn.Module:
    """Construct the model that a configuration node describes, or copy a given one, and materialise its lazy layers.

    Raises:
        ValueError: the object is no module, rejects these inputs, or its outputs do not fit the objective.
    """
    model = constructed(node, info, allow) if given is None else copied(given)
    what = f"model.name={node['name']}" if "name" in node else f"model._target_={node['_target_']}"
    fix = f"Type model={info.input.suits}, or change the model's settings."
    reshape = f"Let the model take num_outputs={info.num_outputs}, or type model={info.input.suits}."
    if given is not None:
        what, fix = f"the given {type(given).__name__}", "Give a module that takes such a batch."
        reshape = "Give a module that returns this shape."
    x = info.input.zeros(2)
    try:
        with torch.no_grad():
            output = model.eval()(x)
        model.train()
    except Exception as error:  # a model may raise anything; the user needs to know which model fits
        shapes = map_state(lambda t: f"{tuple(t.shape)} {t.dtype}", x)
        raise ValueError(
            f"{what} cannot take these data ({info.input.kind}, a batch of {shapes}): {str(error).rstrip('.')}. {fix}"
        ) from error
    try:
        objective.check_outputs(output, 2, info)
    except ValueError as error:
        raise ValueError(f"{what} {error}. {reshape}") from error
    return model


def constructed(node: dict[str, Any], info: Info, allow: list[str]) -> nn.Module:
    """The module that a configuration node describes.

    Raises:
        ValueError: the object is no module, or does not fit into memory.
    """
    try:
        model = create(node, "model", allow, in_shape=info.in_shape, num_outputs=info.num_outputs)
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        raise ValueError(f"the model does not fit into memory: {first_line(error)}. Type smaller settings.") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"model._target_={node['_target_']} gives a {type(model).__name__}, no torch.nn.Module.")
    return model


def copied(given: nn.Module) -> nn.Module:
    """A copy of a module, on the CPU, where models are built; the given one stays as it is.

    Raises:
        ValueError: its content cannot be copied.
    """
    try:
        return copy.deepcopy(given).cpu()
    except Exception as error:  # whatever a module holds may refuse to be copied
        raise ValueError(
            f"the given {type(given).__name__} cannot be copied ({first_line(error)}), and a run trains a copy. "
            "Give a module that copy.deepcopy takes."
        ) from error
