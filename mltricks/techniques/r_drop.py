"""R-Drop: two passes with different dropout should predict the same.

Source: Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu, "R-Drop: Regularized Dropout for Neural Networks", 2021,
arXiv:2106.14448, equations 1 to 3, with means over the samples throughout.
Deviation: half of equation 3, so that the loss has the size of one pass: the optima and the meaning of ``alpha`` stay.
The authors' code stacks the two copies of a batch into one pass; here are two, so that masks that a whole batch shares
(dropconnect) differ too. Batch norm's statistics are from the first. The authors' programs scale the terms in three
different ways.
Shapes: logits (..., K).
Cost: two forward and backward passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.functional.wrapped_model import Recorded
from mltricks.technique import Aux, Ctx, LossFn, Params, Technique


@dataclass(frozen=True)
class RDrop(Technique):
    """(loss_1 + loss_2) / 2 + alpha / 4 (KL(p_1 || p_2) + KL(p_2 || p_1)), p = softmax of the logits.

    Metrics are those of the first pass; ``r_drop_kl`` is the mean of the two divergences.

    Args:
        alpha: weight of the divergence, >= 0.
    """

    alpha: NonNegative

    targets: ClassVar[tuple[str, ...]] = ("classes", "tokens")
    needs_one_output: ClassVar[bool] = True
    needs_random_passes: ClassVar[bool] = True
    needs_softmax: ClassVar[bool] = True

    def loss(self, inner: LossFn) -> LossFn:
        def twice(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            models = Recorded(ctx.model), Recorded(ctx.model)
            first, aux = inner(params, batch, replace(ctx, model=models[0]))
            second, _ = inner(params, batch, ctx.fork(model=models[1]))
            logits = [model.first[1] for model in models if model.first is not None]
            assert len(logits) == 2, "the rest of the techniques runs the model"
            apart = symmetric_divergence(*logits)
            metrics = {**aux["metrics"], "r_drop_kl": apart}
            return (first + second + self.alpha * apart) / 2, {**aux, "metrics": metrics}

        return twice


def symmetric_divergence(a: Tensor, b: Tensor) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of the softmax of logits (..., K), the mean over all axes but the last."""
    log_p, log_q = a.log_softmax(-1), b.log_softmax(-1)
    # both together: sum (p - q) (log p - log q)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2
