"""Checks across options: refuse combinations that do not fit together and settings without effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mltricks.batch import Batch
from mltricks.config.create import given_target, locate
from mltricks.config.values import float_fields
from mltricks.data.info import Info
from mltricks.data.order import learns
from mltricks.data.source import Source
from mltricks.data.splits import DataSplits
from mltricks.functional.ghost_norm import GhostBatchNorm, check_splits
from mltricks.functional_model import FunctionalModel
from mltricks.hyper import Hypers
from mltricks.objectives.base import Objective
from mltricks.process.atomic import first_line
from mltricks.shapes import Shapes
from mltricks.state import State
from mltricks.step import Techniques, normalized, onion, split_at_normalize, through
from mltricks.technique import Ctx, LossFn, defines


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
        names = f"engine={type(engine).__name__.lower()} traces the step, and optim={type(optim).__name__.lower()}"
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
            f"objective={type(objective).__name__} does not fit these data, whose targets are {data.info.target}. "
            f"Type objective={' or objective='.join(objectives_for(data.info.target)) or 'one that takes these'}."
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
                f"technique={name} needs one target for a sample as a whole, and objective={type(objective).__name__} "
                f"has one for every pixel or position. Leave {name} out."
            )
        technique.check(data.info)
        if "x_unlabeled" in technique.needs and data.unlabeled is None:
            raise ValueError(
                f"technique={name} learns from unlabelled samples and there are none. "
                "Type data.unlabeled_ratio=7 data.fraction=0.1."
            )
    check_mixing(techniques)
    check_raw(techniques)
    if data.unlabeled is not None and not any("x_unlabeled" in t.needs for t in techniques.values()):
        raise ValueError(
            f"data.unlabeled_ratio={cfg['data']['unlabeled_ratio']} has no effect: "
            "no technique uses unlabelled samples. Type data.unlabeled_ratio=0, or add one that does."
        )


def check_losses(
    objective: Any, techniques: Techniques, model: FunctionalModel, state: State, batch: Batch, num_outputs: int
) -> None:
    """Refuse a user's objective, or a technique's ``loss``, that does not return a loss and its ``Aux``.

    Args:
        objective, techniques, model: of the run.
        state: before the first step.
        batch: a normalised training batch.
        num_outputs: width of the model's output.
    """
    own = {f"technique={name}": (name, t) for name, t in techniques.items() if is_foreign(t) and defines(t, "loss")}
    losses = {what: (name, t.loss(objective)) for what, (name, t) in own.items()}
    losses |= {"objective": ("", objective)} if is_foreign(objective) else {}
    for what, (name, loss) in losses.items():
        ctx = Ctx(model, dict(state["buffers"]), state["own"], state["step"], 0.0, num_outputs).scope(name)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            try:
                found = loss(state["params"], batch, ctx)
            except Exception:  # it may need what another technique puts into the batch; the step then tells the error
                continue
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict) and "metrics" in found[1]):
            cls = type(objective if what == "objective" else techniques[name])
            raise ValueError(
                f"{what}: the loss of {cls.__module__}.{cls.__qualname__} returns a {type(found).__name__}. It returns "
                'a pair: the loss, and a dict with the entry "metrics", such as {"metrics": {"loss": loss}}.'
            )


def check_random_passes(
    loss: LossFn, techniques: Techniques, model: FunctionalModel, state: State, batch: Batch, num_outputs: int
) -> None:
    """Refuse a technique that compares two passes if nothing behind it draws; floats are as in mid-run."""
    for i, (name, technique) in enumerate(techniques.items()):
        if not technique.needs_random_passes:
            continue
        inner = onion(dict(list(techniques.items())[i + 1 :]), "loss", loss)
        ctx = Ctx(model, dict(state["buffers"]), state["own"], state["step"], 0.5, num_outputs)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
            try:
                first, second = (inner(state["params"], batch, ctx.fork())[0] for _ in range(2))
            except Exception:  # it may need what another technique puts into the batch; the step then tells the error
                continue
        if bool(first == second):
            raise ValueError(
                f"technique={name} compares two passes, which are equal here: nothing behind it draws random numbers. "
                f"Type technique={name}+dropout, in this order, or take a model with dropout."
            )


def is_foreign(thing: Any) -> bool:
    """Whether an object's class is a user's own."""
    return not type(thing).__module__.startswith("mltricks.")


def check_mixing(techniques: Techniques) -> None:
    """Refuse a technique that compares versions of a sample beside one that mixes samples."""
    mixing = [name for name, technique in techniques.items() if technique.mixes]
    comparing = [name for name, technique in techniques.items() if technique.needs_unmixed]
    if mixing and comparing:
        raise ValueError(
            f"technique={comparing[0]} compares several versions of each sample, and technique={mixing[0]} mixes "
            f"samples in one of them. Leave {mixing[0]} out, or {comparing[0]}."
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
        raise ValueError(
            f"sampler={type(sampler).__name__} learns from the loss of every sample, and "
            f"objective={type(objective).__name__} has no per_sample(outputs, y). Add it, or type sampler=shuffle."
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
            f"optim={type(optim).__name__} predicts with weights of its own, and technique={replacing[0]} would "
            f"predict with others. Leave {replacing[0]} out, or type another optim."
        )
    changing = [name for name, t in techniques.items() if defines(t, "after") and t.after_changes != "own"]
    if changing and hasattr(optim, "evaluate"):
        raise ValueError(
            f"optim={type(optim).__name__} predicts with weights of its own, made of its own tensors, and "
            f"technique={changing[0]} changes the weights alone. Leave {changing[0]} out, or change optim."
        )


def check_restarts(techniques: Techniques, optim: Any, hypers: Hypers) -> None:
    """Refuse a technique that uses cycles of the learning rate if the rate does not restart where they end."""
    for name, technique in techniques.items():
        cycles, total = getattr(technique, "cycles", 1), hypers.total_steps
        firsts = [-(-total * k // cycles) for k in range(1, cycles)] if technique.needs_restarts else []
        for k, first in enumerate(firsts, 1):
            before, after = (learning_rate(optim, hypers, step) for step in (first - 1, first))
            if not after > before:
                raise ValueError(
                    f"technique={name} takes the weights at the end of each of {cycles} cycles of the learning rate, "
                    f"and the rate does not restart after cycle {k} (it goes from {before:g} to {after:g} at update "
                    f"{first} of {total}). Type scheduler=cosine_restarts scheduler.cycles={cycles} "
                    f"scheduler.growth=1, or technique.{name}.cycles as many as the schedule has."
                )


def learning_rate(optim: Any, hypers: Hypers, step: int) -> float:
    """The learning rate of an update; the first one of an optimiser with several."""
    name = getattr(type(optim), "learning_rates", ("lr",))[0]
    return hypers.values(step).get(("optim", name), hypers.constants["optim"][name])


def check_shapes(shapes: Shapes | None, module: nn.Module, info: Info, objective: Any) -> None:
    """Refuse a model of fixed input size if a technique changes the shape of samples."""
    if shapes is None:
        return
    for _, shape in shapes.table:
        there, problem = info.reshaped(shape), ""
        try:
            with torch.no_grad():
                objective.check_outputs(module.eval()(there.input.zeros(2)), 2, there)
        except Exception as error:  # a model may raise anything
            problem = first_line(error)
        module.train()
        if problem:
            raise ValueError(
                f"technique={shapes.name} trains on samples of shape {shape}, and model={type(module).__name__} cannot "
                f"take them: {problem}. Type a model for any size, such as model=resnet9 for images, or leave "
                f"{shapes.name} out."
            )


def check_shaped_losses(
    shapes: Shapes | None,
    objective: Any,
    techniques: Techniques,
    model: FunctionalModel,
    state: State,
    batch: Batch,
    info: Info,
) -> None:
    """Refuse a technique whose loss cannot take the samples of another shape, such as a teacher of fixed input size.

    Args:
        shapes: that a technique declares.
        objective, techniques, model: of the run.
        state: before the first step.
        batch: a raw training batch of full size.
        info: describes the data.
    """
    if shapes is None:
        return
    loss, (raw, ready) = onion(techniques, "loss", objective), split_at_normalize(techniques)
    for start, shape in shapes.table:
        ctx = Ctx(
            model, dict(state["buffers"]), state["own"], state["step"], start, info.num_outputs, steps_per_epoch=1
        )
        with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            try:
                small = normalized(through(techniques, raw, shapes.bring(batch, start), ctx), info.normalize)
                loss(state["params"], through(techniques, ready, small, ctx), ctx)
            except RuntimeError as error:
                raise ValueError(
                    f"technique={shapes.name} trains on samples of shape {shape}, and the loss of another technique "
                    f"cannot take them: {first_line(error)}. Leave {shapes.name} or that technique out."
                ) from error


def check_one_output(techniques: Techniques, module: nn.Module, info: Info, objective: Any) -> None:
    """Refuse a technique that works on a single output tensor if the model returns several."""
    needing = [name for name, technique in techniques.items() if technique.needs_one_output]
    if not needing or objective.output_shape(info) is not None:  # ``output_shape`` describes a single tensor
        return
    with torch.no_grad():
        outputs = module.eval()(info.input.zeros(2))
    module.train()
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"technique={needing[0]} works on outputs that are one tensor, and model={type(module).__name__} gives "
            f"a {type(outputs).__name__} of them. Leave {needing[0]} out."
        )


def check_ghosts(source: Source, module: nn.Module) -> None:
    """Refuse batches, or a smaller last batch, that ghost batch norms of the model cannot split evenly."""
    for norm in module.modules():
        if isinstance(norm, GhostBatchNorm):
            for size in (source.batch_size, source.smallest_batch):
                check_splits(norm.key, norm.splits, size)


def check_batches(source: Source, module: nn.Module, techniques: Techniques) -> None:
    """Refuse batches of one sample if a layer or a loss compares samples."""
    if source.smallest_batch > 1:
        return
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    losses = [f"technique={name}" for name, t in techniques.items() if t.needs_whole_batch]
    for who in [*(["the model's batch norm"] if norms else []), *losses]:
        raise ValueError(
            f"{who} cannot work on a batch of one sample, and batch_size={source.batch_size} makes one. "
            f"Type another batch_size{'' if source.batch_size == 1 else ', or data.drop_last=true'}."
        )
