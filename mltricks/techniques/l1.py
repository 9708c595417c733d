"""L1 penalty: add the sum of absolute weights to the loss, which drives small weights to zero.

Source: Tibshirani, "Regression Shrinkage and Selection via the Lasso", 1996.
Deviation: weights only, not biases and norms; convolutions and linear layers have separate strengths.
Cost: one pass over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.functional.penalty import check_weights, l1_norm, penalised
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class L1(Technique):
    """loss + strength sum |w|: the gradient of a weight grows by strength sign(w). Metric ``penalty``.

    Args:
        conv: strength for the weights of convolutions, >= 0.
        linear: strength for the weights of linear, recurrent and attention layers, >= 0.
    """

    conv: NonNegative
    linear: NonNegative

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        check_weights(model, "l1")
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        return penalised(inner, l1_norm, self.conv, self.linear)
