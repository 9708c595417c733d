"""Whether options fit the data and each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mltricks.config.create import given_target, locate
from mltricks.config.options import option_of
from mltricks.config.values import float_fields
from mltricks.data.info import Info
from mltricks.data.order import learns
from mltricks.data.splits import DataSplits
from mltricks.objectives.base import Objective
from mltricks.step import Techniques, split_at_normalize
from mltricks.technique import defines


def check_optim(node: dict[str, Any], allow: Sequence[str]) -> None:
    """Refuse a class that is no optimiser, before it is constructed."""
    cls = locate(given_target(node, "optim"), "optim", allow)
    missing = [f"a method {name}" for name in ("init", "update") if not hasattr(cls, name)]
    missing += [] if {"lr", *getattr(cls, "learning_rates", ())} & float_fields(cls).keys() else ["a float field lr"]
    if missing:
        raise ValueError(
            f"optim._target_={node['_target_']} has not {missing[0]}. An optimiser is a frozen dataclass with a float "
            "field lr and the methods init(params) and update(grads, opt, params). For a class of torch.optim, type "
            "optim=torch optim.name=CLASS."
        )


def check_engine(engine: Any, optim: Any, techniques: Techniques) -> None:
    """Refuse an engine that traces the step if the optimiser or a technique cannot be traced."""
    untraced = [name for name, technique in techniques.items() if not technique.traceable]
    if engine.tensors and untraced:
        raise ValueError(
            f"engine={type(engine).__name__.lower()} records the step as a graph, which technique={untraced[0]} cannot "
            f"be part of. Type engine=eager, or leave {untraced[0]} out."
        )
    if engine.tensors and not getattr(optim, "traceable", True):
        names = f"engine={type(engine).__name__.lower()} traces the step, and optim={option_of('optim', optim)}"
        raise ValueError(
            f"{names} keeps state that cannot be traced. Type engine=eager, or another optimiser such as optim=adamw."
        )


def check_fit(objective: Any, techniques: Techniques, data: DataSplits, cfg: dict[str, Any]) -> None:
    """Refuse options that do not fit the data or each other, and settings without effect."""
    if not isinstance(objective, Objective):
        raise ValueError(
            f"objective._target_ gives a {type(objective).__name__}, no objective. "
            "Derive the class from mltricks.objectives.base.Objective; a loss of torch.nn goes by its name, with "
            "objective=torch_classify or objective=torch_regress."
        )
    if data.info.target not in objective.targets:
        raise ValueError(
            f"objective={option_of('objective', objective)} does not fit these data, whose targets are "
            f"{data.info.target}. "
            f"Type objective={' or objective='.join(objectives_for(data.info.target)) or 'one that takes these'}."
            f"{objective.advice(data.info)}"
        )
    if cfg["precision"]["dtype"] == "fp16" and "loss_scale" not in techniques:
        raise ValueError("precision.dtype=fp16 without loss scaling loses small gradients. Type precision=fp16.")
    for name, technique in techniques.items():
        kind = data.info.input
        for wanted, there in ((technique.kinds, (kind.kind, *kind.also)), (technique.targets, (data.info.target,))):
            if wanted and not set(there) & set(wanted):
                raise ValueError(
                    f"technique={name} works on {' or '.join(wanted)} data; these are {there[0]}. Leave {name} out, "
                    "or the option of augment or regularizer that brings it."
                )
        if technique.needs_one_target and not objective.one_target:
            raise ValueError(
                f"technique={name} needs one target for a sample as a whole, and "
                f"objective={option_of('objective', objective)} has one for every pixel or position. Leave {name} out."
            )
        technique.check(data.info)
        if "x_unlabeled" in technique.needs and data.unlabeled is None:
            few = any(cfg["data"].get(key) is not None for key in ("labels_per_class", "limit"))
            fewer = "" if few or cfg["data"].get("fraction", 1.0) != 1.0 else " data.fraction=0.1"
            raise ValueError(
                f"technique={name} learns from unlabelled samples and there are none. "
                f"Type data.unlabeled_ratio=7{fewer}."
            )
    check_joined(techniques)
    check_mixing(techniques)
    check_mirrors(techniques)
    check_raw(techniques)
    check_softmax(objective, techniques, data.info)
    if data.unlabeled is not None and not any("x_unlabeled" in t.needs for t in techniques.values()):
        raise ValueError(
            f"data.unlabeled_ratio={cfg['data']['unlabeled_ratio']} has no effect: "
            "no technique uses unlabelled samples. Type data.unlabeled_ratio=0, or add one that does."
        )


def check_joined(techniques: Techniques) -> None:
    """Refuse a technique that changes the loss behind one whose loss leaves it out."""
    names = list(techniques)
    for place, name in enumerate(names, 1):
        setting = techniques[name].joined_by
        if not setting or getattr(techniques[name], setting):
            continue
        left_out = [other for other in names[place:] if defines(techniques[other], "loss")]
        if left_out:
            raise ValueError(
                f"technique.{name}.{setting}=false leaves the loss of {left_out[0]}, which comes after it, without "
                f"effect. Put {left_out[0]} before {name} if it adds a term, leave it out, or type "
                f"technique.{name}.{setting}=true."
            )


def check_mixing(techniques: Techniques) -> None:
    """Refuse a technique that compares versions of a sample beside one that mixes samples."""
    mixing = [name for name, technique in techniques.items() if technique.mixes]
    comparing = [name for name, technique in techniques.items() if technique.needs_unmixed]
    if mixing and comparing:
        raise ValueError(
            f"technique={comparing[0]} compares several versions of each sample, and technique={mixing[0]} mixes "
            f"samples in one of them. Leave {mixing[0]} out, or {comparing[0]}."
        )


def check_mirrors(techniques: Techniques) -> None:
    """Refuse two techniques that mirror images: an image that one of them chose is as often mirrored back."""
    mirroring = [name for name, technique in techniques.items() if technique.mirrors]
    if len(mirroring) > 1:
        raise ValueError(
            f"technique={mirroring[0]} and technique={mirroring[1]} both mirror images, so each undoes what the other "
            "chose. Leave one out, or the option of augment that brings it, such as augment=crop for augment=standard."
        )


def check_raw(techniques: Techniques) -> None:
    """Refuse a technique that needs raw pixels after one that needs normalised images."""
    _, ready = split_at_normalize(techniques)
    for name in ready:
        if techniques[name].needs_raw:
            raise ValueError(
                f"technique={name} works on raw pixels, and technique={ready[0]} in front of it on normalised images. "
                f"Put {name} before {ready[0]}."
            )


def check_softmax(objective: Objective, techniques: Techniques, info: Info) -> None:
    """Refuse a technique that takes the softmax of the outputs if the objective reads other predictions from them."""
    averaging = [name for name, t in techniques.items() if getattr(t, "average", None) == "probabilities"]
    needing = [*averaging, *(name for name, t in techniques.items() if t.needs_softmax)]
    outputs = torch.linspace(-1, 1, info.num_outputs)[None]
    if not needing or torch.allclose(objective.predict(outputs), outputs.softmax(-1)):
        return
    predicts = f"classes predicted by a softmax, and objective={option_of('objective', objective)} predicts otherwise"
    if averaging:
        key = f"technique.{averaging[0]}.average"
        raise ValueError(f"{key}=probabilities is for {predicts}. Type {key}=logits.")
    raise ValueError(f"technique={needing[0]} is for {predicts}. Type objective=classify, or leave {needing[0]} out.")


def objectives_for(target: str) -> list[str]:
    """The options of group ``objective`` that accept a kind of target; first those that are made for it."""
    import yaml

    from mltricks.config.options import conf_dir

    nodes = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((conf_dir() / "objective").glob("*.yaml"))}
    ours = {name: node["_target_"] for name, node in nodes.items() if node["_target_"] != "???"}
    taken = {name: locate(path, "objective", []).targets for name, path in ours.items()}
    return sorted((name for name in ours if target in taken[name]), key=lambda name: taken[name].index(target))


def check_sampler(sampler: Any, objective: Any) -> None:
    """Refuse a sampler that learns from per-sample losses if the objective has none."""
    if learns(sampler) and type(objective).per_sample is Objective.per_sample:
        fix = "Type" if type(objective).__module__.startswith("mltricks.") else "Add it, or type"
        raise ValueError(
            f"sampler={option_of('sampler', sampler)} learns from the loss of every sample, and "
            f"objective={option_of('objective', objective)} has no per_sample(outputs, y). {fix} sampler=shuffle."
        )


def check_prediction(optim: Any, techniques: Techniques) -> None:
    """Refuse two parts that would each predict with weights of its own: one of them would be ignored.

    Beside an optimiser that does so, that also holds for techniques that change the weights after the update, which
    the optimiser's own copy would miss.
    """
    replacing = [name for name, t in techniques.items() if t.replaces_weights]
    if len(replacing) > 1:
        raise ValueError(
            f"technique={replacing[0]} and technique={replacing[1]} both predict with weights of their own, so one of "
            f"them would be ignored. Leave {replacing[0]} or {replacing[1]} out."
        )
    if replacing and hasattr(optim, "evaluate"):
        raise ValueError(
            f"optim={option_of('optim', optim)} predicts with weights of its own, and technique={replacing[0]} would "
            f"predict with others. Leave {replacing[0]} out, or type another optim."
        )
    changing = [name for name, t in techniques.items() if defines(t, "after") and t.after_changes != "own"]
    if changing and hasattr(optim, "evaluate"):
        raise ValueError(
            f"optim={option_of('optim', optim)} predicts with weights of its own, made of its own tensors, and "
            f"technique={changing[0]} changes the weights alone. Leave {changing[0]} out, or change optim."
        )
