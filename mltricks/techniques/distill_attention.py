"""Attention transfer: where the student's maps are large follows where the teacher's are.

Source: Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural
Networks via Attention Transfer", 2016, arXiv:1612.03928, section 3.1 (activation-based, sum of squares), in the form of
the authors' code: the mean of the squared differences over samples and positions, with a weight of 1000.
Deviation: the default weight is a tenth of that. The mean divides by the number of positions, so the term is larger for
small maps: at 1000 a network without batch norm diverges on the 8x8 digits under gradient descent with a rate of 0.01.
A group ends at the last layer behind a ReLU whose maps have the size of a convolution's; in a residual network these
are the source's groups. Maps of different sizes are refused, or with ``resize`` averaged to the smaller size (the
source has neither).
Shapes: maps (B, C, H, W) of teacher and student, whose numbers of channels may differ.
Cost: one forward pass of the teacher; its weights are twice in memory and once in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional.activations import Captured
from mltricks.functional.paired_layers import Layer, Pair, given_pairs, group_ends, layers_of, listed
from mltricks.taught_layers import TaughtLayers
from mltricks.technique import Aux, Ctx, LossFn, Own, Params

EPS = 1e-12
"""Smallest length by which an attention map is divided: a map of zeros stays one."""


@dataclass(frozen=True)
class DistillAttention(TaughtLayers):
    """loss + weight times the sum over the pairs of mean (Q_student - Q_teacher)^2. Metric ``attention_loss``.

    Q is the mean of the squares over the channels, scaled to length 1.

    Without names, the layers are the ends of the groups of layers with maps of one size, for the sizes that both models
    have.

    Args:
        resize: average the larger of two maps to the size of the smaller.
    """

    resize: bool

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        own = self.read(batch)
        modules = self.skeleton.module, model
        maps = [[layer for layer in layers_of(module, batch["x"]) if len(layer.shape) == 4] for module in modules]
        object.__setattr__(self, "pairs", self.choose(*maps))
        return params, own

    def choose(self, teacher: list[Layer], student: list[Layer]) -> list[Pair]:
        """The pairs of layers.

        Raises:
            ValueError: a model has no maps, or the sizes of two differ.
        """
        for whose, layers in (("teacher", teacher), ("student", student)):
            if not layers:
                raise ValueError(
                    f"technique=distill_attention compares maps (channels, height, width), and the {whose} has none. "
                    "Type model=convnet, or another model for images."
                )
        given = given_pairs(teacher, student, (self.teacher_layers, self.layers), "distill_attention")
        if given is None:
            return self.ends(teacher, student)
        for t, s in given:
            if t.shape[2:] != s.shape[2:] and not self.resize:
                raise ValueError(
                    f"technique.distill_attention.layers: {s.name} has maps of {s.shape[2:]}, {t.name} of the teacher "
                    f"of {t.shape[2:]}. Type technique.distill_attention.resize=true, or name others. "
                    f"{listed('Student', student)}"
                )
        return given

    def ends(self, teacher: list[Layer], student: list[Layer]) -> list[Pair]:
        """The ends of groups of equal size; with ``resize`` the last groups of both, in order."""
        theirs, mine = group_ends(teacher), group_ends(student)
        if self.resize:
            num = min(len(theirs), len(mine))
            pairs = list(zip([*theirs.values()][-num:], [*mine.values()][-num:], strict=True)) if num else []
        else:
            pairs = [(theirs[size], mine[size]) for size in theirs if size in mine]
        if not pairs:
            raise ValueError(
                "technique=distill_attention: no group of the student has maps of the size of one of the teacher. "
                f"{listed('Teacher', list(theirs.values()))} {listed('Student', list(mine.values()))} Type "
                "technique.distill_attention.resize=true, or name layers in teacher_layers and layers."
            )
        return pairs

    def loss(self, inner: LossFn) -> LossFn:
        def attending(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            model = Captured(ctx.model, self.guided)
            loss, aux = inner(params, batch, replace(ctx, model=model))
            term = torch.stack([attention_gap(theirs, mine) for theirs, mine in self.outputs(model, ctx)]).sum()
            total = loss + self.weight * term
            return total, {**aux, "metrics": {**aux["metrics"], "loss": total, "attention_loss": term}}

        return attending


def attention_gap(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean squared difference of the attention of two maps, 0-d.

    Args:
        teacher, student: (B, C, H, W); C may differ. Of different sizes, both are averaged to the smaller.
    """
    size = [min(a, b) for a, b in zip(teacher.shape[2:], student.shape[2:], strict=True)]
    return (attention(teacher, size) - attention(student, size)).square().mean()


def attention(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The mean of the squares over the channels, averaged to a size, as vectors of length 1: (B, H W).

    >>> attention(torch.tensor([[[[3.0, 4.0]], [[0.0, 0.0]]]]).sqrt(), (1, 2))
    tensor([[0.6000, 0.8000]])
    """
    energy = maps.square().mean(1)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        if energy.shape[axis] != length:
            energy = (averaging(energy.shape[axis], length).to(energy) @ energy.movedim(axis, -2)).movedim(-2, axis)
    return F.normalize(energy.flatten(1), eps=EPS)


def averaging(long: int, short: int) -> Tensor:
    """The matrix (short, long) of adaptive average pooling. As a product it has a gradient that is always the same.

    >>> averaging(3, 2)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000]])
    """
    starts = [i * long // short for i in range(short)]
    ends = [-(-(i + 1) * long // short) for i in range(short)]
    rows = [[float(a <= j < b) / (b - a) for j in range(long)] for a, b in zip(starts, ends, strict=True)]
    return torch.tensor(rows)
