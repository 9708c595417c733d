"""DropConnect: zero each weight of a layer with a given probability.

Source: Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of Neural Networks using DropConnect", ICML 2013, equation 3.
Deviation: one mask for a batch, or for a micro-batch; the source draws one for every sample. Weights that are kept are
divided by 1 - p, and prediction uses the mean weight; the source samples the layer's output from a Gaussian with the
same two moments instead. All linear layers by default; the source leaves out the softmax layer: see ``layers``.
What others call drop-connect rate, as in EfficientNet, is ``technique=stochastic_depth``.
Cost: one random tensor and one product per weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import Decay
from mltricks.functional.drop import check_droppable, with_dropped
from mltricks.functional.layers import linear_layers, matching_layers, weighted_layers
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class Dropconnect(Technique):
    """W = W mask / (1 - p) in training, with mask ~ Bernoulli(1 - p) for every weight.

    Args:
        p: probability of zeroing a weight, in [0, 1).
        layers: patterns of the names of linear layers and convolutions; ``None`` for all linear layers.
        biases: whether the layers' biases are dropped too.
    """

    p: Decay
    layers: Sequence[str] | None
    biases: bool

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        check_droppable(dropped_names(model, self.layers, self.biases), params, "dropconnect")
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        return with_dropped(inner, partial(dropped_names, patterns=self.layers, biases=self.biases), self.p)


def dropped_names(model: nn.Module, patterns: Sequence[str] | None, biases: bool) -> list[str]:
    """The names of the parameters that are dropped.

    Raises:
        ValueError: the model has no linear layer, or a pattern matches no layer.
    """
    key, layers = "technique.dropconnect.layers", linear_layers(model)
    if patterns is not None:
        layers = matching_layers(weighted_layers(model), patterns, key, "Linear layers and convolutions")
    elif not layers:
        raise ValueError(
            f"technique=dropconnect drops the weights of linear layers, and {type(model).__name__} has none. "
            f"Type {key}=NAME; convolutions: {', '.join(weighted_layers(model)) or 'none'}."
        )
    owners = {name: ["weight", *(["bias"] if biases and m.bias is not None else [])] for name, m in layers.items()}
    return [f"{name}.{key}" if name else key for name, keys in owners.items() for key in keys]
