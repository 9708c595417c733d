"""Snapshot ensemble: the weights at the ends of several cycles of the learning rate predict together.

Source: Huang, Li, Pleiss, Liu, Hopcroft, Weinberger, "Snapshot Ensembles: Train 1, Get M for Free", 2017,
arXiv:1704.00109, section 3; https://github.com/gaohuang/SnapshotEnsemble.
Every snapshot keeps its own batch-norm statistics. Between two snapshots, those taken so far predict, and before the
first one the current weights; the number of snapshots is counted, so that no empty place is averaged.
Deviation: none. The schedule is ``cosine_restarts`` with ``growth=1``; any that restarts at equal shares will do.
Shapes: outputs (B, ..., K).
Cost: ``members`` more copies of weights and buffers in memory and in every checkpoint, all of them written once an
update, as a step cannot branch; ``members`` forward passes in evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.functional.points import points_passed
from mltricks.technique import Aux, Ctx, Own, Params, PredFn, Technique


@dataclass(frozen=True)
class Snapshot(Technique):
    """The mean prediction of the weights at the ends of the last ``members`` of ``cycles`` equal parts of the run.

    Args:
        cycles: M, the number of cycles of the learning rate, >= 1.
        members: snapshots that predict together, the last ones, from 1 to ``cycles``.
        average: whether to average ``probabilities`` or ``logits`` (for targets that are values: the values).
    """

    cycles: Count
    members: Count
    average: Literal["logits", "probabilities"]

    targets = ("classes", "tokens", "values")
    needs_one_output = True
    needs_restarts = True
    replaces_weights = True
    after_changes = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members > self.cycles:
            raise ValueError(
                f"technique.snapshot.members={self.members} is more than technique.snapshot.cycles={self.cycles}, and "
                "a cycle gives one snapshot. Type fewer members or more cycles."
            )

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        if self.average == "probabilities" and batch["y"].is_floating_point():
            raise ValueError(
                "technique.snapshot.average=probabilities is for classes, and these targets are values. "
                "Type technique.snapshot.average=logits."
            )
        held = {"params": params, "buffers": dict(model.named_buffers())}
        slots = {str(i): {part: _cloned(tensors) for part, tensors in held.items()} for i in range(self.members)}
        return params, {"slots": slots, "count": torch.zeros((), dtype=torch.int64, device=batch["y"].device)}

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        count = ctx.own["count"]
        due = points_passed(ctx, 0.0, self.cycles) > count
        slots = {}
        for i, slot in ctx.own["slots"].items():
            written = due & (count % self.members == int(i))
            written = written | (count == 0) if i == "0" else written  # until the first snapshot, follow the weights
            now = {"params": params, "buffers": ctx.buffers}
            slots[i] = {part: _where(written, now[part], kept) for part, kept in slot.items()}
        return params, {"slots": slots, "count": count + due}

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            filled = ctx.own["count"].clamp(1, self.members)
            total: Any = 0
            for i, slot in ctx.own["slots"].items():
                # later techniques may have added parameters and buffers after these were copied
                taken = ctx.fork({**ctx.buffers, **slot["buffers"]})
                outputs = inner({**params, **slot["params"]}, x, taken)
                one = outputs if self.average == "logits" else outputs.softmax(-1)
                total = total + torch.where(filled > int(i), one, 0) / filled
            return total if self.average == "logits" else total.clamp_min(torch.finfo(total.dtype).tiny).log()

        return predict


def _cloned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in tensors.items()}


def _where(flag: Tensor, new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the names of ``old``, from ``new`` where the flag is true."""
    return {name: torch.where(flag, new[name], kept) for name, kept in old.items()}
