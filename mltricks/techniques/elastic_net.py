"""Elastic net: add a weighted sum of the L1 and L2 penalties to the loss.

Source: Zou and Hastie, "Regularization and Variable Selection via the Elastic Net", 2005, in scikit-learn's terms
(strength and ``l1_ratio``).
Deviation: weights only, not biases and norms; convolutions and linear layers have separate strengths.
Cost: two passes over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Probability
from mltricks.functional.penalty import check_weights, half_square, l1_norm, penalised
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class ElasticNet(Technique):
    """loss + strength (l1_ratio sum |w| + (1 - l1_ratio) / 2 sum w^2). Metric ``penalty``.

    Args:
        conv: strength for the weights of convolutions, >= 0.
        linear: strength for the weights of linear, recurrent and attention layers, >= 0.
        l1_ratio: weight of the L1 penalty, in [0, 1].
    """

    conv: NonNegative
    linear: NonNegative
    l1_ratio: Probability

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        check_weights(model, "elastic_net")
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        def blend(weight: Tensor) -> Tensor:
            return self.l1_ratio * l1_norm(weight) + (1 - self.l1_ratio) * half_square(weight)

        return penalised(inner, blend, self.conv, self.linear)
