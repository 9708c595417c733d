"""What only a built run shows: losses that fail or lack a part, passes that are equal, rates that do not restart."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from mltricks.batch import Batch
from mltricks.compatibility.module import check_ghosts
from mltricks.config.options import called
from mltricks.data.source import Source
from mltricks.data.splits import DataSplits
from mltricks.functional_model import FunctionalModel
from mltricks.hyper import Hypers
from mltricks.process.atomic import first_line
from mltricks.schedules.base import Following
from mltricks.shapes import Shapes
from mltricks.state import State
from mltricks.step import Techniques, normalized, onion, split_at_normalize, through
from mltricks.technique import Ctx, bind, defines


class Built(Protocol):
    """The parts of a run before its first step."""

    cfg: dict[str, Any]
    data: DataSplits
    model: FunctionalModel
    objective: Any
    techniques: Techniques
    optim: Any
    hypers: Hypers
    source: Source
    state: State
    total_steps: int
    shapes: Shapes | None
    frozen: frozenset[str]


def check_built(run: Built, raw: Batch) -> None:
    """Refuse what only a built run shows.

    Args:
        run: the run.
        raw: a training batch, not yet normalised.

    Raises:
        ValueError: names the technique or setting, and what to type instead.
    """
    batch = normalized(raw, run.data.info.normalize)
    check_ghosts(run.source, run.model.module)
    check_losses(run, batch)
    check_shaped_losses(run, raw)
    check_random_passes(run, batch)
    check_restarts(run)
    check_unfreezing(run)


def without_effect(run: Built) -> list[str]:
    """A line for every part that waits for more than the run has: a run that is made longer may have it.

    Args:
        run: the run.
    """
    longer = "a larger max_steps" if run.total_steps == run.cfg["max_steps"] else "more epochs"
    validations = (run.total_steps - 1) // (run.source.steps_per_epoch * run.cfg["eval_every_epochs"])
    waiting, found = without_drop(run, validations), []
    if waiting:
        least = next(iter(waiting.values()))[1]
        patience = " ".join(dict.fromkeys(f"{schedule}.patience={validations - 2}" for schedule, _ in waiting.values()))
        found.append(
            f"note: {' and '.join(waiting)} cannot drop: that takes {least} validations, and this run makes "
            f"{validations} before its last update. Type {f'{patience}, or ' if validations > 1 else ''}{longer}."
        )
    if run.source.untaught is not None and run.total_steps <= run.source.steps_per_epoch:
        found.append(
            f"note: sampler={called(run.cfg['sampler'])} knows no losses in the first epoch, and this run has no "
            f"other. Type {longer}."
        )
    found += [f"{note}, or {longer}." for note in never_unfrozen(run)]
    for key, updates in first_changes(run).items():
        if updates > run.total_steps:
            found.append(
                f"note: {key}={updates}: in a run of {run.total_steps} updates the weights that predict stay the "
                f"initial ones. Type {key}={run.total_steps} or less, or {longer}."
            )
    return found + unaugmented(run.techniques)


def unaugmented(techniques: Techniques) -> list[str]:
    """A line for every technique that needs augmented samples, in a run that augments none."""
    needing = [name for name, t in techniques.items() if t.needs_augmentation]
    if any(defines(t, "batch") or defines(t, "on_host") for name, t in techniques.items() if name not in needing):
        return []
    return [
        f"note: technique={name} trains on its own predictions, and no labelled sample is augmented: with few labels "
        "it may become confidently wrong. Type augment=crop, or augment=standard where mirrored images keep a class."
        for name in needing
    ]


def never_unfrozen(run: Built) -> list[str]:
    """A sentence, without its end, for every technique that unfreezes layers later than the run ends."""
    found, epochs = [], run.total_steps / run.source.steps_per_epoch
    for name, technique in run.techniques.items():
        pace = getattr(technique, "epochs_per_layer", None)
        lowest = max((int(k) for k in run.state["own"][name]["params"].values()), default=0) if pace else 0
        if pace and lowest * pace >= epochs:
            key = f"technique.{name}.epochs_per_layer"
            found.append(
                f"note: {key}={pace:g}: the lowest of the {lowest + 1} layers would learn from epoch {lowest * pace:g} "
                f"on, and the run has {epochs:g}. Type {key}={epochs / (lowest + 1):.2g}"
            )
    return found


def first_changes(run: Built) -> dict[str, int]:
    """The number of updates until a technique's weights that predict change for the first time, by its key."""
    fields = {name: getattr(t, "first_change", None) for name, t in run.techniques.items()}
    return {f"technique.{name}.{f}": getattr(run.techniques[name], f) for name, f in fields.items() if f is not None}


def without_drop(run: Built, validations: int) -> dict[str, tuple[str, int]]:
    """What a plateau schedule drives that needs more validations: by its key the schedule's, and how many."""
    found: dict[str, tuple[str, int]] = {}
    for (owner, name), drive in run.hypers.drives.items():
        least = getattr(drive.schedule, "least_scores", 1) if isinstance(drive, Following) else 0
        if least > validations:
            key = f"{owner}.{name}" if owner == "optim" else f"technique.{owner}.{name}"
            is_own = owner != "optim" or isinstance(run.cfg["optim"].get(name), dict)
            found[key] = (key if is_own else "scheduler", least)
    return found


def context(run: Built, progress: float) -> Ctx:
    """A context for a trial of a loss."""
    parts = dict(run.state["buffers"]), run.state["own"], run.state["step"], progress, run.data.info.num_outputs
    return Ctx(run.model, *parts, steps_per_epoch=run.source.steps_per_epoch)


def check_losses(run: Built, batch: Batch) -> None:
    """Refuse a user's objective, or a technique's ``loss``, that does not return a loss and its ``Aux``."""
    foreign = {name: t for name, t in run.techniques.items() if is_foreign(t) and defines(t, "loss")}
    losses = {f"technique={name}": (name, t.loss(run.objective)) for name, t in foreign.items()}
    losses |= {"objective": ("", run.objective)} if is_foreign(run.objective) else {}
    for what, (name, loss) in losses.items():
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            try:
                found = loss(run.state["params"], batch, context(run, 0.0).scope(name))
            except Exception:  # it may need what another technique puts into the batch; the step then tells the error
                continue
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict) and "metrics" in found[1]):
            cls = type(run.objective if what == "objective" else run.techniques[name])
            raise ValueError(
                f"{what}: the loss of {cls.__module__}.{cls.__qualname__} returns a {type(found).__name__}. It returns "
                'a pair: the loss, and a dict with the entry "metrics", such as {"metrics": {"loss": loss}}.'
            )


def is_foreign(thing: Any) -> bool:
    """Whether an object's class is a user's own."""
    return not type(thing).__module__.startswith("mltricks.")


def check_shaped_losses(run: Built, raw: Batch) -> None:
    """Refuse a technique whose loss cannot take the samples of another shape, such as a teacher of fixed input size."""
    if run.shapes is None:
        return
    loss, (on_raw, on_ready) = onion(run.techniques, "loss", run.objective), split_at_normalize(run.techniques)
    for start, shape in run.shapes.table:
        ctx = context(run, start)
        with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            try:
                small = through(run.techniques, on_raw, run.shapes.bring(raw, start), ctx)
                small = through(run.techniques, on_ready, normalized(small, run.data.info.normalize), ctx)
                loss(run.state["params"], small, ctx)
            except RuntimeError as error:
                raise ValueError(
                    f"technique={run.shapes.name} trains on samples of shape {shape}, and the loss of another "
                    f"technique cannot take them: {first_line(error)}. Leave {run.shapes.name} or that technique out."
                ) from error


def check_random_passes(run: Built, batch: Batch) -> None:
    """Refuse a technique that compares two passes if nothing behind it draws; floats are as in mid-run."""
    techniques = in_the_middle(run)
    for i, (name, technique) in enumerate(techniques.items()):
        if not technique.needs_random_passes:
            continue
        inner = onion(dict(list(techniques.items())[i + 1 :]), "loss", run.objective)
        ctx = context(run, 0.5)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
            try:
                first, second = (inner(run.state["params"], batch, ctx.fork())[0] for _ in range(2))
            except Exception:  # it may need what another technique puts into the batch; the step then tells the error
                continue
        if bool(first == second):
            raise ValueError(
                f"technique={name} compares two passes, which are equal here: nothing behind it draws random numbers. "
                f"Type technique={name}+dropout, in this order, or take a model with dropout."
            )


def in_the_middle(run: Built) -> Techniques:
    """The techniques with scheduled floats as they are half-way through the run."""
    floats: dict[str, dict[str, float]] = {}
    for (owner, name), value in run.hypers.values(run.total_steps // 2).items():
        floats.setdefault(owner, {})[name] = value
    return {name: bind(technique, floats.get(name, {})) for name, technique in run.techniques.items()}


def check_restarts(run: Built) -> None:
    """Refuse a technique that uses cycles of the learning rate if the rate does not restart where they end."""
    for name, technique in run.techniques.items():
        cycles, total = getattr(technique, "cycles", 1), run.total_steps
        firsts = [-(-total * k // cycles) for k in range(1, cycles)] if technique.needs_restarts else []
        for k, first in enumerate(firsts, 1):
            before, after = (learning_rate(run.optim, run.hypers, step) for step in (first - 1, first))
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


def check_unfreezing(run: Built) -> None:
    """Refuse a technique whose layers would learn later, if another one freezes all of them for the whole run."""
    for name, technique in run.techniques.items():
        if not hasattr(technique, "levels") or not run.state["own"][name]["params"].keys() <= run.frozen:
            continue
        raise ValueError(
            f"technique={name} has no effect: the layers that it would unfreeze are frozen for the whole run. Leave it "
            "or technique=freeze out, or freeze fewer layers by technique.freeze.include."
        )
