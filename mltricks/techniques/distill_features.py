"""FitNets: hidden layers of the student predict those of a teacher.

Source: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", 2014, arXiv:1412.6550,
equation 3, in the form of the authors' code: half the squared distance, summed over the channels, averaged over samples
and positions. The source trains in two stages, first by the hint alone (``labels=false``), then by distillation;
``labels=true`` adds the hint to the loss instead, as in most later comparisons.
Deviation: where the two layers have equal shapes they are compared as they are, without a regressor. By default the two
layers are those nearest the middle of both models whose maps have equal sizes, of maps among the last layers of every
size; the source takes the middle layers.
Shapes: maps (B, C, H, W) by a convolution whose kernel, (1 + difference of the heights) x (1 + difference of the
widths), brings the student's map to the size of the teacher's, as in the source; sequences (B, L, D) and vectors (B, D)
by a linear layer.
Cost: one forward pass of the teacher; its weights are twice in memory and once in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional.activations import Captured
from mltricks.functional.paired_layers import Layer, Pair, given_pairs, layers_of, listed, middle_pair, reached
from mltricks.state import map_state
from mltricks.taught_layers import TaughtLayers
from mltricks.technique import Aux, Ctx, LossFn, Own, Params

PREFIX = "distill_features/"
"""Of the names of the regressors' parameters, which take part in training only."""


@dataclass(frozen=True)
class DistillFeatures(TaughtLayers):
    """loss + weight times the sum over the pairs of 1/2 ||hint - regressor(guided)||^2. Metric ``hint_loss``.

    Args:
        labels: whether the rest of the loss counts. Without, the hint is the whole loss, and what no guided layer
            depends on is frozen: no decay, no momentum, no new statistics.

    Attributes:
        few: the student's module and a few inputs; set by ``setup``.
    """

    labels: bool
    few: tuple[nn.Module, Any] = field(init=False, repr=False, compare=False)

    joined_by = "labels"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        own, where = self.read(batch), batch["y"].device
        pairs = self.choose(layers_of(self.skeleton.module, batch["x"]), layers_of(model, batch["x"]))
        object.__setattr__(self, "pairs", pairs)
        object.__setattr__(self, "few", (model, map_state(lambda t: t[:2], batch["x"])))
        new = {f"{PREFIX}{i}.{n}": p for i, pair in enumerate(pairs) for n, p in regressor(*pair).items()}
        return {**params, **{n: p.to(where) for n, p in new.items()}}, own

    def choose(self, teacher: list[Layer], student: list[Layer]) -> list[Pair]:
        """The pairs of layers.

        Raises:
            ValueError: no layers fit, or those that the settings name do not.
        """
        given = given_pairs(teacher, student, (self.teacher_layers, self.layers), "distill_features")
        if given is None:
            middle = middle_pair(teacher, student, fits)
            if middle is None:
                raise ValueError(
                    "technique=distill_features: no layer of the student has a map at least as large as one of the "
                    f"teacher. {listed('Teacher', teacher)} {listed('Student', student)} Take another model."
                )
            return [middle]
        for t, s in given:
            if not fits(t, s):
                raise ValueError(
                    f"technique.distill_features.layers: {s.name} gives {s.shape[1:]} and cannot predict {t.name} of "
                    f"the teacher, {t.shape[1:]}: a regressor takes a map of at least its size, a sequence of its "
                    f"length, a vector for a vector. {listed('Student', student)}"
                )
        return given

    def frozen(self, params: Params) -> Collection[str]:
        if self.labels:
            return ()
        module, x = self.few
        trained = reached(module, self.guided, params, x)
        if not trained:
            raise ValueError("technique.distill_features.layers: no parameter stands before these. Name later ones.")
        return [name for name in params if name not in trained and not name.startswith(PREFIX)]

    def loss(self, inner: LossFn) -> LossFn:
        def hinted(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            model = Captured(ctx.model, self.guided)
            inside = replace(ctx, model=model)
            if self.labels:
                loss, aux = inner(params, batch, inside)
                hint = self.hint(params, model, ctx)
                total = loss + self.weight * hint
                return total, {**aux, "metrics": {**aux["metrics"], "loss": total, "hint_loss": hint}}
            inside.apply(params, batch["x"])
            hint = self.hint(params, model, ctx)
            total = self.weight * hint
            return total, {"metrics": {"loss": total, "hint_loss": hint}}

        return hinted

    def hint(self, params: Params, model: Captured, ctx: Ctx) -> Tensor:
        """The sum of the distances of all pairs, 0-d."""
        both = enumerate(self.outputs(model, ctx))
        return torch.stack([half_square(theirs, regressed(params, i, mine)) for i, (theirs, mine) in both]).sum()


def fits(teacher: Layer, student: Layer) -> bool:
    """Whether a regressor can bring the student's output to the shape of the teacher's."""
    t, s = teacher.shape[1:], student.shape[1:]
    if len(t) != len(s):
        return False
    return all(a <= b for a, b in zip(t[1:], s[1:], strict=True)) if len(t) == 3 else t[:-1] == s[:-1]


def regressor(teacher: Layer, student: Layer) -> Params:
    """The parameters of the layer from the student's output to the shape of the teacher's; none for equal shapes."""
    t, s = teacher.shape[1:], student.shape[1:]
    if t == s:
        return {}
    if len(t) == 3:
        layer: nn.Module = nn.Conv2d(s[0], t[0], (1 + s[1] - t[1], 1 + s[2] - t[2]))
    else:
        layer = nn.Linear(s[-1], t[-1])
    return {name: p.detach().clone() for name, p in layer.named_parameters()}


def regressed(params: Params, i: int, x: Tensor) -> Tensor:
    """The output of the i-th regressor, or ``x`` where there is none."""
    if f"{PREFIX}{i}.weight" not in params:
        return x
    weight, bias = params[f"{PREFIX}{i}.weight"], params[f"{PREFIX}{i}.bias"]
    return F.conv2d(x, weight, bias) if x.ndim == 4 else F.linear(x, weight, bias)


def half_square(target: Tensor, found: Tensor) -> Tensor:
    """Half the squared distance, summed over the channels (axis 1 of maps, else the last), the mean over the rest.

    >>> half_square(torch.zeros(3, 2), torch.tensor([[1.0, 2.0]] * 3))
    tensor(2.5000)
    """
    return 0.5 * (target - found).square().sum(1 if target.ndim == 4 else -1).mean()
