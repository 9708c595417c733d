"""FixMatch: train strongly augmented unlabelled samples on the confident predictions for their weak views.

Source: Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", 2020,
arXiv:2001.07685, equations 3 and 4 and algorithm 1.
Deviation: other techniques (``augment=...``) augment the labelled samples, and also the unlabelled ones before their
weak and strong views are made. The strong operations are those of
``mltricks.functional.strong_augment``.
Shapes: ``x`` (B, C, H, W), ``x_unlabeled`` (U, C, H, W) float; logits (U, K).
Cost: one forward pass of B + 2U samples instead of B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Probability, Range, Size
from mltricks.functional.strong_augment import strong_augment
from mltricks.functional.views import flip_and_shift
from mltricks.functional.wrapped_model import WithExtraRows
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique


@dataclass(frozen=True)
class Fixmatch(Technique):
    """loss + unlabeled_weight mean(1[max q >= threshold] H(argmax q, p)).

    q is the prediction for the weak view, without gradient, and p for the strong view; H is the cross-entropy.

    Args:
        threshold: minimum confidence of a pseudo-label, in [0, 1].
        unlabeled_weight: weight of the unlabelled term, >= 0.
        max_shift: maximum shift of the weak view as a fraction of the side, in [0, 0.5].
        flip: mirror half of the views left to right.
        num_ops: number of random operations in the strong view, >= 0.
        cutout: side of the square blanked in the strong view, as a fraction of the image's side, in [0, 1].
    """

    threshold: Probability
    unlabeled_weight: NonNegative
    max_shift: Annotated[float, Range(0.0, 0.5)]
    flip: bool
    num_ops: Size
    cutout: Probability

    needs = ("x_unlabeled",)
    kinds = ("image",)
    needs_one_target = True
    needs_one_output = True
    needs_softmax = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        if batch["y"].is_floating_point():
            raise ValueError(
                "technique=fixmatch makes class labels, and these data have values as targets. Leave fixmatch out."
            )
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        def semi_supervised(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            model = WithExtraRows(ctx.model, torch.cat(self.views(batch["x_unlabeled"])))
            loss, aux = inner(params, batch, replace(ctx, model=model))
            assert model.extra_output is not None, "the rest of the techniques runs the model"
            weak, strong = model.extra_output.chunk(2)
            unlabeled_loss, mask_rate = consistency(weak, strong, self.threshold)
            total = loss + self.unlabeled_weight * unlabeled_loss
            metrics = {"loss": total, "unlabeled_loss": unlabeled_loss, "mask_rate": mask_rate}
            return total, {**aux, "metrics": {**aux["metrics"], **metrics}}

        return semi_supervised

    def views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The weak and the strong view of every sample."""
        weak = flip_and_shift(x, self.max_shift, self.flip)
        return weak, strong_augment(flip_and_shift(x, self.max_shift, self.flip), self.num_ops, self.cutout)


def consistency(weak_UK: Tensor, strong_UK: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy of strong views against the confident pseudo-labels of the weak views.

    Args:
        weak_UK, strong_UK: logits; no gradient flows into the weak ones.
        threshold: minimum confidence.

    Returns:
        The sum over confident samples divided by the number of all samples, and the share of confident samples.
    """
    confidence, label = weak_UK.detach().softmax(1).max(1)
    counts = (confidence >= threshold).float()
    return (F.cross_entropy(strong_UK, label, reduction="none") * counts).mean(), counts.mean()
