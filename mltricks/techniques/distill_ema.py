"""Self-distillation from the moving average: the student's own average is its teacher, on the labelled samples.

Source: Tarvainen, Valpola, "Mean teachers are better role models: Weight-averaged consistency targets improve
semi-supervised deep learning results", 2017, arXiv:1703.01780, section 2, for the teacher; Hinton, Vinyals, Dean,
"Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2, for the loss.
Deviation: the loss is the divergence of softened predictions (the source compares probabilities by squared error, and
finds the divergence worse on unlabelled samples). Teacher and student see the same inputs, and the teacher runs in
evaluation mode with averaged batch-norm statistics, as the teacher of ``distill`` does. Prediction is with the current
weights; add ``ema`` for the average's.
Shapes: logits (..., K).
Cost: one forward pass; one more copy of the weights, and one interpolation per update.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Positive, Probability
from mltricks.functional.wrapped_model import Recorded
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique
from mltricks.techniques.distill import divergence
from mltricks.techniques.ema import first_average, next_average


@dataclass(frozen=True)
class DistillEma(Technique):
    """(1 - weight) loss + weight T^2 KL(softmax(average / T) || softmax(student / T)), with T the temperature.

    Metric ``distill_loss``.

    Args:
        temperature: divisor of the logits, > 0.
        weight: weight of the soft term, in [0, 1].
        decay: weight of the old average, in [0, 1].
        warmup: increase the decay from a small value, so that the average soon forgets the initial weights.
    """

    targets: ClassVar[tuple[str, ...]] = ("classes", "tokens")
    needs_one_output: ClassVar[bool] = True
    after_changes = "own"

    temperature: Positive
    weight: Probability
    decay: Probability
    warmup: bool

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        return params, first_average(model, params)

    def loss(self, inner: LossFn) -> LossFn:
        def distilled(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            model = Recorded(ctx.model)
            loss, aux = inner(params, batch, replace(ctx, model=model))
            assert model.first is not None, "the rest of the techniques runs the model"
            x, student = model.first
            with torch.no_grad():
                averaged = ctx.fork()
                averaged.buffers.update(ctx.own["buffers"])
                teacher = averaged.apply({**params, **ctx.own["params"]}, x, train=False)
            soft = divergence(student, teacher, self.temperature)
            total = (1 - self.weight) * loss + self.weight * soft
            return total, {**aux, "metrics": {**aux["metrics"], "loss": total, "distill_loss": soft}}

        return distilled

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        return params, next_average(params, ctx, self.decay, self.warmup)
