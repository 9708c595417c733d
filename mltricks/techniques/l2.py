"""L2 penalty: add half the sum of squared weights to the loss.

Source: Krogh and Hertz, "A Simple Weight Decay Can Improve Generalization", 1991, equation 2.
Deviation: weights only, not biases and norms; convolutions and linear layers have separate strengths. With plain
SGD this equals weight decay; with Adam it differs from AdamW's decay (Loshchilov and Hutter, arXiv:1711.05101).
Cost: one pass over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.functional.penalty import check_weights, half_square, penalised
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class L2(Technique):
    """loss + strength / 2 sum w^2: the gradient of a weight grows by strength w. Metric ``penalty``.

    Args:
        conv: strength for the weights of convolutions, >= 0.
        linear: strength for the weights of linear, recurrent and attention layers, >= 0.
    """

    conv: NonNegative
    linear: NonNegative

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        check_weights(model, "l2")
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        return penalised(inner, half_square, self.conv, self.linear)
