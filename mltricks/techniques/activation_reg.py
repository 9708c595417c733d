"""Activation regularisation (AR): penalise large activations of hidden layers.

Source: Merity, Keskar, Socher, "Regularizing and Optimizing LSTM Language Models", 2017, arXiv:1708.02182, section 4.6,
in the form of the authors' code, the mean of the squares.
Deviation: on any model. By default on the input of the last linear layer, behind dropout that stands before it: in the
source's model that is the dropped output of the last recurrent layer.
Cost: one pass over the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.functional.activations import Chosen, with_penalty
from mltricks.functional.feature_maps import Seen
from mltricks.functional.last_linear import last_linear
from mltricks.functional.layers import matching_layers
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class ActivationReg(Technique):
    """loss + strength mean(h^2), the mean over all elements and layers. Metric ``penalty``.

    Args:
        strength: >= 0.
        layers: patterns of the names of modules whose outputs are penalised; ``None`` for the input of the last linear
            layer.
    """

    strength: NonNegative
    layers: Sequence[str] | None

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        Seen(model, batch["x"]).check_tensors(list(penalised(model, self.layers)), "activation_reg")
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        return with_penalty(inner, partial(penalised, patterns=self.layers), mean_square, self.strength)


def mean_square(h: Tensor, axis: int) -> Tensor:
    """The mean of the squares of all elements, 0-d."""
    return h.square().mean()


def penalised(model: nn.Module, patterns: Sequence[str] | None) -> Chosen:
    """The activations that are penalised.

    Raises:
        ValueError: the model has no linear layer, or a pattern matches no module.
    """
    if patterns is None:
        return {last_linear(model, "activation_reg"): (0, 1)}
    modules = {name: module for name, module in model.named_modules() if name}
    return dict.fromkeys(matching_layers(modules, patterns, "technique.activation_reg.layers", "Modules"), (1, 1))
