"""Refusing what does not go together: combinations that cannot be right, and settings that change nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mltricks.data.order import learns
from mltricks.data.source import Source
from mltricks.data.splits import DataSplits, Info
from mltricks.process.atomic import first_line
from mltricks.shapes import Shapes
from mltricks.step import Stack, split_at_normalize
from mltricks.technique import defines

OBJECTIVES = {"classes": "classify", "values": "regress", "tokens": "next_token"}
"""The objective for each kind of target."""


def check_engine(engine: Any, optim: Any) -> None:
    """Refuse an engine that traces the step, where the optimiser cannot be traced."""
    if engine.tensors and not getattr(optim, "traceable", True):
        names = f"engine={type(engine).__name__.lower()} traces the step, and optim={type(optim).__name__.lower()}"
        raise ValueError(
            f"{names} keeps state that cannot be traced. Type engine=eager, or an optimiser of ours, as optim=adamw."
        )


def check_fit(objective: Any, techniques: Stack, data: DataSplits, cfg: dict[str, Any]) -> None:
    """Refuse combinations that cannot be right, and settings that change nothing."""
    if data.info.target not in objective.kinds:
        raise ValueError(
            f"objective={type(objective).__name__} does not fit these data, whose targets are {data.info.target}. "
            f"Type objective={OBJECTIVES[data.info.target]}."
        )
    if cfg["precision"]["dtype"] == "fp16" and "loss_scale" not in techniques:
        raise ValueError("precision.dtype=fp16 without loss scaling loses small gradients. Type precision=fp16.")
    for name, technique in techniques.items():
        if technique.kinds and data.info.kind not in technique.kinds:
            kinds = " or ".join(technique.kinds)
            raise ValueError(f"technique={name} works on {kinds} data; these are {data.info.kind}. Leave {name} out.")
        technique.check(data.info)
        if "x_unlabeled" in technique.needs and data.unlabeled is None:
            raise ValueError(
                f"technique={name} learns from unlabelled samples and there are none. "
                "Type data.unlabeled_ratio=7 data.fraction=0.1."
            )
    check_raw(techniques)
    if data.unlabeled is not None and not any("x_unlabeled" in t.needs for t in techniques.values()):
        raise ValueError(
            f"data.unlabeled_ratio={cfg['data']['unlabeled_ratio']} has no effect: "
            "no technique uses unlabelled samples. Type data.unlabeled_ratio=0, or add technique=fixmatch."
        )


def check_raw(techniques: Stack) -> None:
    """Refuse a technique that needs raw pixels behind one that needs normalised images."""
    _, ready = split_at_normalize(techniques)
    for name in ready:
        if techniques[name].needs_raw:
            raise ValueError(
                f"technique={name} works on raw pixels, and technique={ready[0]} in front of it on normalised images. "
                f"Put {name} before {ready[0]}."
            )


def check_sampler(sampler: Any, objective: Any) -> None:
    """Refuse a sampler that learns from the losses of samples, where the objective does not give these."""
    if learns(sampler) and not hasattr(objective, "per_sample"):
        raise ValueError(
            f"sampler={type(sampler).__name__} learns from the loss of every sample, and "
            f"objective={type(objective).__name__} has no per_sample(outputs, y). Add it, or type sampler=shuffle."
        )


def check_prediction(optim: Any, techniques: Stack) -> None:
    """Refuse two averages of the weights that would predict: the optimiser's own, and a technique's."""
    averages = [name for name, t in techniques.items() if defines(t, "after") and defines(t, "evaluate")]
    if averages and hasattr(optim, "evaluate"):
        raise ValueError(
            f"optim={type(optim).__name__} predicts with weights of its own, and technique={averages[0]} would predict "
            f"with others. Leave {averages[0]} out, or type another optim."
        )


def check_shapes(shapes: Shapes | None, module: nn.Module, info: Info) -> None:
    """Refuse a model of fixed size, where a technique changes the shape of samples."""
    if shapes is None:
        return
    for _, shape in shapes.table:
        wanted = (2, *(shape if info.target == "tokens" else ()), info.num_outputs)
        x = torch.zeros(2, *shape, dtype=torch.int64 if info.kind == "tokens" else torch.float32)
        try:
            with torch.no_grad():
                got = tuple(module.eval()(x).shape)
            problem = "" if got == wanted else f"gives {got} for them where {wanted} is wanted"
        except Exception as error:  # whatever a model raises
            problem = f"cannot take them: {first_line(error)}"
        module.train()
        if problem:
            raise ValueError(
                f"technique={shapes.name} trains on samples of shape {shape}, and model={type(module).__name__} "
                f"{problem}. Type a model for every size, as model=resnet9 for images, or leave {shapes.name} out."
            )


def check_batches(source: Source, module: nn.Module, techniques: Stack) -> None:
    """Refuse batches of one sample where a layer or a loss needs a second to compare it with."""
    if source.smallest_batch > 1:
        return
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    losses = [f"technique={name}" for name, t in techniques.items() if t.needs_whole_batch]
    for who in [*(["the model's batch norm"] if norms else []), *losses]:
        raise ValueError(
            f"{who} cannot work on a batch of one sample, and batch_size={source.batch_size} makes one. "
            "Type another batch_size, or data.drop_last=true."
        )
