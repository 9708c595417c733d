"""Knowledge distillation: train on the softened predictions of a teacher as well as on the labels.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2.
Deviation: the soft term is the KL divergence from the teacher instead of the cross-entropy; they differ by the
teacher's entropy, a constant.
Several teachers are one: the mean of their softened predictions, which the source calls the arithmetic mean.
The teacher runs in evaluation mode without test-time augmentation, with the weights that its run predicts with (an
average, if it has one). It sees the same augmented inputs as the student. If the two were trained with different input
statistics, the inputs are renormalised for the teacher.
Shapes: logits (..., K) of student and teacher.
Cost: one forward pass of every teacher; its weights are twice in memory and once in every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Positive, Probability
from mltricks.data.info import Info
from mltricks.functional.wrapped_model import Recorded
from mltricks.functional_model import FunctionalModel
from mltricks.inputs.base import saved
from mltricks.state import named_leaves
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique


@dataclass(frozen=True)
class Distill(Technique):
    """(1 - weight) loss + weight T^2 KL(softmax(teacher / T) || softmax(student / T)), with T the temperature.

    Args:
        teacher: output folder of the teacher's run, or its ``best.safetensors``; several joined by ``+``.
        temperature: divisor of the logits, > 0.
        weight: weight of the soft term, in [0, 1].
        allow_modules: packages that the teacher's ``_target_`` may name besides mltricks and torch.

    Attributes:
        student: describes the data; set by ``check``, ``None`` if the technique is used without a configuration.
        skeletons: the teachers without their weights, which are in the state; set by ``setup``.
    """

    targets: ClassVar[tuple[str, ...]] = ("classes", "tokens")
    needs_one_output: ClassVar[bool] = True

    teacher: str | None
    temperature: Positive
    weight: Probability
    allow_modules: Sequence[str]
    student: Info | None = field(init=False, repr=False, compare=False)
    skeletons: list[FunctionalModel] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        # neither this nor the skeletons are hyperparameters, so they may be set on a frozen object; ``bind`` copies
        object.__setattr__(self, "student", None)

    def check(self, info: Info) -> None:
        object.__setattr__(self, "student", info)

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        from mltricks.ensemble import runs_in

        if self.teacher is None:
            raise ValueError(
                "technique.distill.teacher is missing: the output folder of the teacher's run. Train one, for instance "
                "with python -m mltricks model=resnet9, and type technique.distill.teacher=outputs/DATE/TIME."
            )
        read = [self.read(teacher, batch["y"].device) for teacher in runs_in(self.teacher)]
        object.__setattr__(self, "skeletons", [skeleton for skeleton, _ in read])
        if len(read) == 1:
            return params, read[0][1]
        return params, {str(i): own for i, (_, own) in enumerate(read)}

    def read(self, teacher: str, where: torch.device) -> tuple[FunctionalModel, Own]:
        """A teacher, without its weights; and these, with what converts the student's inputs to its own."""
        from mltricks.config.create import create
        from mltricks.predictor import rebuild
        from mltricks.weights import BUFFER, PARAM, RAW, info_of, load_weights

        tensors, metadata = load_weights(Path(teacher))
        taught = info_of(metadata, tensors, list(self.allow_modules))
        check_same_task(teacher, taught, self.student)
        if any(name.startswith(RAW) for name in tensors):
            raise ValueError(
                f"technique.distill.teacher={teacher} predicts with several sets of weights, an ensemble; "
                "distill takes teachers of one set each. Give the folder of such a run, or RUN+RUN."
            )
        config = {**metadata["config"], "precision": {"dtype": "fp32"}}  # ``teach`` applies the student's precision
        allow = list(self.allow_modules)
        objective = create(config["objective"], "objective", allow)
        function, _ = rebuild(config, taught, objective, allow, tensors, where)
        weights = {
            "params": {name: tensors[PARAM + name] for name, _ in function.params},
            "buffers": {name: tensors[BUFFER + name] for name, _ in function.buffers},
        }
        return function, {**weights, **renormalization(self.student, taught)}

    def loss(self, inner: LossFn) -> LossFn:
        def distilled(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            model = Recorded(ctx.model)
            loss, aux = inner(params, batch, replace(ctx, model=model))
            assert model.first is not None, "the rest of the techniques runs the model"
            x, student = model.first
            soft = divergence(student, self.teach(x, ctx), self.temperature)
            total = (1 - self.weight) * loss + self.weight * soft
            return total, {**aux, "metrics": {**aux["metrics"], "loss": total, "distill_loss": soft}}

        return distilled

    @torch.no_grad()
    def teach(self, x: Tensor, ctx: Ctx) -> Tensor:
        """The teacher's logits; of several, those whose softened prediction is the mean of theirs."""
        owns = [ctx.own] if len(self.skeletons) == 1 else list(ctx.own.values())
        found = []
        for skeleton, own in zip(self.skeletons, owns, strict=True):
            seen = x * own["scale"] + own["shift"] if "scale" in own else x
            with ctx.model.precision():
                found.append(skeleton(own["params"], own["buffers"], seen, False)[0].float())
        return found[0] if len(found) == 1 else joined(found, self.temperature)


def joined(teachers: Sequence[Tensor], temperature: float | Tensor) -> Tensor:
    """The logits v with softmax(v / T) the mean of softmax(t / T) over the teachers' logits t, each (..., K)."""
    log_p = torch.stack([(logits / temperature).log_softmax(-1) for logits in teachers])
    return temperature * (log_p.logsumexp(0) - math.log(len(teachers)))


def divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over all axes but the last.

    The factor T^2 keeps the scale of the gradient independent of the temperature.

    Args:
        student, teacher: logits (..., K).
        temperature: T > 0.
    """
    target, log_p = (teacher / temperature).log_softmax(-1), (student / temperature).log_softmax(-1)
    return temperature * temperature * (target.exp() * (target - log_p)).sum(-1).mean()


def check_same_task(teacher: str, taught: Info, student: Info | None) -> None:
    """Refuse a teacher with different inputs, outputs or classes."""
    if student is None:
        return
    pairs = [(name, getattr(taught, name), getattr(student, name)) for name in ("target", "num_outputs", "classes")]
    pairs.insert(0, ("input", str(taught.input), str(student.input)))
    for name, theirs, mine in pairs:
        if theirs != mine:
            raise ValueError(
                f"technique.distill.teacher={teacher} was trained on other data: its {name} is {theirs}, "
                f"here it is {mine}. Give the folder of a run on the same data."
            )


def renormalization(student: Info | None, taught: Info) -> Own:
    """The tensors that convert the student's normalised inputs to the teacher's; empty if both have equal statistics.

    Raises:
        ValueError: the statistics differ, and the input kind has no single mean and deviation tensor.
    """
    if student is None:
        return {}
    mine, theirs = (dict(named_leaves(saved(info.input)[1])) for info in (student, taught))
    if mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine):
        return {}
    if not {"mean", "std"} == mine.keys() == theirs.keys():
        raise ValueError("technique.distill.teacher was trained on inputs of other statistics. Use the same data.")
    return {"scale": mine["std"] / theirs["std"], "shift": (mine["mean"] - theirs["mean"]) / theirs["std"]}
