"""FixMatch: train strongly augmented unlabelled samples on the confident predictions for their weak views.

Source: Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", 2020,
arXiv:2001.07685, equations 3 and 4, algorithm 1 and table 12, and the authors' code (google-research/fixmatch). The
labelled samples and both views share one forward pass, so batch norm sees their mixture, as in the authors' code.
Deviation: other techniques (``augment=...``) augment the labelled samples, and also the unlabelled ones before their
weak and strong views are made. ``space=randaugment`` has the source's 14 operations on 8-bit pixels, each drawn equally
often within a batch (``mltricks.functional.images.policies``), at strengths between the source's ten levels too;
``space=normalized`` those of ``mltricks.functional.strong_augment``. Pixels from outside the image are the training
mean.
Shapes: ``x`` (B, C, H, W), ``x_unlabeled`` (U, C, H, W) float; logits (U, K).
Cost: one forward pass of B + 2U samples instead of B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from mltricks.batch import Batch, as_stored
from mltricks.config.values import NonNegative, Probability, Range, Size
from mltricks.data.info import Info
from mltricks.functional.images.pixels import check_colors, on_pixels
from mltricks.functional.pseudo_labels import consistency, watched
from mltricks.functional.strong_augment import cut_out, randaugmented, strong_augment
from mltricks.functional.views import flip_and_shift, uniform
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
        space: what the operations of the strong view are drawn from: ``randaugment`` (14 of 8-bit pixels) or
            ``normalized`` (10 of normalised images).
        num_ops: number of random operations in the strong view, >= 0.
        cutout: side of the square blanked in the strong view, as a fraction of the image's side, in [0, 1].
    """

    threshold: Probability
    unlabeled_weight: NonNegative
    max_shift: Annotated[float, Range(0.0, 0.5)]
    flip: bool
    space: Literal["randaugment", "normalized"]
    num_ops: Size
    cutout: Probability

    needs = ("x_unlabeled",)
    kinds = ("image",)
    needs_one_target = True
    needs_one_output = True
    needs_softmax = True
    needs_augmentation = True
    on_raw = True
    white: ClassVar[int] = 255
    """The value of a white pixel in these data, which ``check`` sets."""
    fill: ClassVar[int] = 0
    """The mean pixel of these data, where white is 255, which ``check`` sets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "needs_raw", self.space == "randaugment")

    def check(self, info: Info) -> None:
        if self.space == "normalized":
            return
        check_colors("fixmatch", info)
        white = getattr(info.input, "white", 255)
        object.__setattr__(self, "white", white)
        object.__setattr__(self, "fill", round(float(info.input.mean.mean()) * 255 / white))  # type: ignore[attr-defined]

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        if batch["y"].is_floating_point():
            raise ValueError(
                "technique=fixmatch makes class labels, and these data have values as targets. Leave fixmatch out."
            )
        return params, {}

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        if self.space == "normalized":
            return batch
        weak = flip_and_shift(batch["x_unlabeled"], self.max_shift, self.flip)
        strong = flip_and_shift(batch["x_unlabeled"], self.max_shift, self.flip)
        strong = on_pixels(strong, self.white, lambda x: randaugmented(x, self.num_ops, self.fill))
        return {**batch, "x_unlabeled": as_stored(weak), "x_strong": strong}

    def loss(self, inner: LossFn) -> LossFn:
        def semi_supervised(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            model = WithExtraRows(ctx.model, torch.cat(self.views(batch)))
            loss, aux = inner(params, batch, replace(ctx, model=model))
            assert model.extra_output is not None, "the rest of the techniques runs the model"
            weak, strong = model.extra_output.chunk(2)
            unlabeled_loss, mask_rate, counts = consistency(weak, strong, self.threshold)
            total = loss + self.unlabeled_weight * unlabeled_loss
            metrics = {"loss": total, "unlabeled_loss": unlabeled_loss, "mask_rate": mask_rate}
            metrics |= watched(weak, batch, counts)
            return total, {**aux, "metrics": {**aux["metrics"], **metrics}}

        return semi_supervised

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weak and the strong view of every unlabelled sample, normalised."""
        x = batch["x_unlabeled"]
        if self.space == "randaugment":
            return x, cut_out(batch["x_strong"], uniform(x, 0.0, 1.0, 2), self.cutout)
        weak = flip_and_shift(x, self.max_shift, self.flip)
        return weak, strong_augment(flip_and_shift(x, self.max_shift, self.flip), self.num_ops, self.cutout)
