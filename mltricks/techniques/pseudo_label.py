"""Pseudo-labels: train unlabelled samples on the classes that the model itself predicts for them.

Source: Lee, "Pseudo-Label: The simple and efficient semi-supervised learning method for deep neural networks", ICML
workshop 2013, equations 15 and 16. The threshold, and what follows from a second pass, are those of Google's comparison
(Oliver et al. 2018, arXiv:1804.09170, and pseudo_label.py in google-research/fixmatch).
Deviation: the weight grows between two shares of the run, as the source's epochs 100 and 600 say nothing about a run of
another length.
The unlabelled samples have a forward pass of their own. It normalises by their batch statistics, and the running
statistics of batch norm are those of the labelled pass alone.
Shapes: ``x_unlabeled`` (U, ...), logits (U, K).
Cost: a forward and a backward pass of U samples more.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Probability
from mltricks.functional.pseudo_labels import consistency, linear_ramp, watched
from mltricks.technique import Aux, Ctx, LossFn, Params, Technique


@dataclass(frozen=True)
class PseudoLabel(Technique):
    """loss + weight ramp mean(1[max p >= threshold] H(argmax p, p)), p the prediction for an unlabelled sample.

    Args:
        weight: weight of the unlabelled term at the end of the ramp, >= 0.
        threshold: least probability of a predicted class that is trained on, in [0, 1].
        ramp_start_frac: share of the run up to which the term has weight 0, in [0, 1].
        ramp_end_frac: share of the run from which it has its full weight, in [0, 1]; linear in between.

    Raises:
        ValueError: the ramp ends before it starts.
    """

    weight: NonNegative
    threshold: Probability
    ramp_start_frac: Probability
    ramp_end_frac: Probability

    needs = ("x_unlabeled",)
    targets = ("classes",)
    needs_one_output = True
    needs_softmax = True
    needs_augmentation = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ramp_end_frac < self.ramp_start_frac:
            raise ValueError(
                f"technique.pseudo_label.ramp_end_frac={self.ramp_end_frac} lies before ramp_start_frac="
                f"{self.ramp_start_frac}. Type technique.pseudo_label.ramp_end_frac={self.ramp_start_frac} or more."
            )

    def loss(self, inner: LossFn) -> LossFn:
        def semi_supervised(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            loss, aux = inner(params, batch, ctx)
            logits = ctx.fork().apply(params, batch["x_unlabeled"])
            term, mask_rate, counts = consistency(logits, logits, self.threshold)
            ramp = linear_ramp(ctx.progress, self.ramp_start_frac, self.ramp_end_frac).to(loss.device)
            total = loss + self.weight * ramp * term
            metrics = {"loss": total, "unlabeled_loss": term, "mask_rate": mask_rate, **watched(logits, batch, counts)}
            return total, {**aux, "metrics": {**aux["metrics"], **metrics}}

        return semi_supervised
