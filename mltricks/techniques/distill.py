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
from typing import ClassVar

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Positive, Probability
from mltricks.data.info import Info
from mltricks.functional.wrapped_model import Recorded
from mltricks.functional_model import FunctionalModel
from mltricks.teacher import read_teacher, seen_by, teachers_in
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
        names, where = teachers_in("distill", self.teacher), batch["y"].device
        read = [read_teacher("distill", name, self.student, self.allow_modules, where) for name in names]
        object.__setattr__(self, "skeletons", [skeleton for skeleton, _ in read])
        if len(read) == 1:
            return params, read[0][1]
        return params, {str(i): own for i, (_, own) in enumerate(read)}

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
            with ctx.model.precision():
                found.append(skeleton(own["params"], own["buffers"], seen_by(own, x), False)[0].float())
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
