"""Mean teacher: predict for one noisy view of a sample as an average of the past weights predicts for another.

Source: Tarvainen and Valpola, "Mean teachers are better role models", 2017, arXiv:1703.01780, section 2 and appendix B,
and the authors' code (CuriousAI/mean-teacher).
Normalisation: the squared error of two predictions is divided by K and averaged over all B + U samples, and the loss of
the labels is the mean over the B labelled samples. The authors' PyTorch code averages that loss over all samples too,
so its weight of 100 is 100 (B + U) / B here; Google's comparison uses 50.
Deviation: the teacher's batch-norm statistics are averages of the student's, as with ``technique=ema``, instead of
statistics of its own passes. Labelled samples reach the student as ``augment=...`` leaves them, and the teacher in
another view. The ramp is a share of the run.
Shapes: ``x`` (B, C, H, W), ``x_unlabeled`` (U, C, H, W) float; logits (B + U, K).
Cost: a forward and a backward pass of U samples, and a forward pass of B + U samples, more; a copy of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Probability, Range
from mltricks.functional.pseudo_labels import exponential_ramp, watched
from mltricks.functional.views import flip_and_shift
from mltricks.functional.wrapped_model import Recorded, WithExtraRows
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, PredFn, Technique
from mltricks.techniques.ema import average


@dataclass(frozen=True)
class MeanTeacher(Technique):
    """loss + weight ramp mean((softmax(student) - softmax(teacher))^2), the mean over samples and classes.

    Args:
        weight: weight of the consistency term after the ramp, >= 0.
        ramp_frac: share of the run over which the weight grows as exp(-5 (1 - t)^2), in [0, 1].
        decay: share of the teacher that an update keeps, in [0, 1].
        warmup: start with min(decay, 1 - 1 / (t + 1)) at update t, counted from 1.
        max_shift: maximum shift of a view as a fraction of the side, in [0, 0.5].
        flip: mirror half of the views left to right.
        noise: standard deviation of the Gaussian noise of a view, of normalised images, >= 0.
    """

    weight: NonNegative
    ramp_frac: Probability
    decay: Probability
    warmup: bool
    max_shift: Annotated[float, Range(0.0, 0.5)]
    flip: bool
    noise: NonNegative

    needs = ("x_unlabeled",)
    kinds = ("image",)
    targets = ("classes",)
    needs_one_output = True
    needs_softmax = True
    needs_augmentation = True
    after_changes = "own"
    replaces_weights = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        buffers = {name: b.clone() for name, b in model.named_buffers() if b.is_floating_point()}
        return params, {"params": {name: p.clone() for name, p in params.items()}, "buffers": buffers}

    def loss(self, inner: LossFn) -> LossFn:
        def semi_supervised(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            rows = WithExtraRows(ctx.model, self.view(batch["x_unlabeled"]))
            model = Recorded(rows)
            loss, aux = inner(params, batch, replace(ctx, model=model))
            assert model.first is not None, "the rest of the techniques runs the model"
            x, labelled = model.first
            assert rows.extra_output is not None, "and with it the unlabelled rows"
            student = torch.cat([labelled, rows.extra_output])
            teacher = self.teach(params, torch.cat([x, batch["x_unlabeled"]]), ctx)
            term = (student.softmax(1) - teacher.softmax(1)).square().mean()
            weight = self.weight * exponential_ramp(ctx.progress, self.ramp_frac).to(loss.device)
            total = loss + weight * term
            metrics = {"loss": total, "consistency_loss": term, **watched(teacher[len(x) :], batch)}
            return total, {**aux, "metrics": {**aux["metrics"], **metrics}}

        return semi_supervised

    def view(self, x: Tensor) -> Tensor:
        """A random view of every sample."""
        return flip_and_shift(x, self.max_shift, self.flip) + self.noise * torch.randn_like(x)

    @torch.no_grad()
    def teach(self, params: Params, x: Tensor, ctx: Ctx) -> Tensor:
        """The teacher's logits for views of its own, in training mode."""
        teacher = ctx.fork({**ctx.buffers, **ctx.own["buffers"]})
        logits: Tensor = teacher.apply({**params, **ctx.own["params"]}, self.view(x))
        return logits

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        decay: float | Tensor = self.decay
        if self.warmup:
            count = ctx.step + 1
            decay = torch.minimum(torch.as_tensor(decay, device=count.device), 1 - 1 / (count + 1))
        new = {name: average(ctx.own[name], now, decay) for name, now in (("params", params), ("buffers", ctx.buffers))}
        return params, new

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            teacher = ctx.fork({**ctx.buffers, **ctx.own["buffers"]})
            return inner({**params, **ctx.own["params"]}, x, teacher)

        return predict
