"""The base of techniques by which layers of a student follow layers of a teacher: their settings, and both outputs.

Shapes: those of the layers, of teacher and student: maps (B, C, H, W), sequences (B, L, D) and vectors (B, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.data.info import Info
from mltricks.functional.activations import Captured
from mltricks.functional.paired_layers import Pair, captured_outputs
from mltricks.functional_model import FunctionalModel
from mltricks.teacher import INPUT, one_teacher, read_teacher, seen_by
from mltricks.technique import Ctx, Own, Technique


@dataclass(frozen=True)
class TaughtLayers(Technique):
    """The settings of teacher and layers. A subclass chooses ``pairs`` in ``setup``, after ``read``, and adds a loss.

    Args:
        teacher: output folder of the teacher's run, or its ``best.safetensors``; its classes may be others.
        teacher_layers: patterns of names of the teacher's modules; ``None`` chooses.
        layers: as many of the student's.
        weight: factor of the term, >= 0.
        allow_modules: packages that the teacher's ``_target_`` may name besides mltricks and torch.

    Attributes:
        student: describes the data; set by ``check``, ``None`` if the technique is used without a configuration.
        skeleton: the teacher without its weights, which are in the state; set by ``read``.
        pairs: the layers.
    """

    teacher: str | None
    teacher_layers: Sequence[str] | None
    layers: Sequence[str] | None
    weight: NonNegative
    allow_modules: Sequence[str]
    student: Info | None = field(init=False, repr=False, compare=False)
    skeleton: FunctionalModel = field(init=False, repr=False, compare=False)
    pairs: list[Pair] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "student", None)  # none of the attributes is a hyperparameter; ``bind`` copies them

    def check(self, info: Info) -> None:
        object.__setattr__(self, "student", info)

    def read(self, batch: Batch) -> Own:
        """Read the teacher; returns its tensors.

        Raises:
            ValueError: there is none, there are several, or its inputs are others.
        """
        name = type(self).__module__.rpartition(".")[2]
        one, where = one_teacher(name, self.teacher), batch["y"].device
        skeleton, own = read_teacher(name, one, self.student, self.allow_modules, where, INPUT)
        object.__setattr__(self, "skeleton", skeleton)
        return own

    @property
    def notes(self) -> Sequence[str]:
        pairs = ", ".join(f"{mine.name} follows {theirs.name} of the teacher" for theirs, mine in self.pairs)
        return (f"{type(self).__module__.rpartition('.')[2]}: {pairs}",)

    @property
    def guided(self) -> list[str]:
        """The names of the student's layers."""
        return [student.name for _, student in self.pairs]

    def outputs(self, model: Captured, ctx: Ctx) -> list[tuple[Tensor, Tensor]]:
        """What the layers of every pair give for the student's input: the teacher's without gradient, the student's.

        Args:
            model: the student, which has run and has kept the outputs of ``guided``.
            ctx: that of the loss.
        """
        assert model.first, "the rest of the techniques runs the model"
        own, names = ctx.own, [teacher.name for teacher, _ in self.pairs]
        with torch.no_grad(), ctx.model.precision():
            _, _, captured = self.skeleton(own["params"], own["buffers"], seen_by(own, model.x), False, names)
        both = captured_outputs(captured, names), captured_outputs(model.first, self.guided)
        return list(zip(*both, strict=True))
