"""Weight drop: DropConnect on the hidden-to-hidden weights of recurrent layers.

Source: Merity, Keskar, Socher, "Regularizing and Optimizing LSTM Language Models", 2017, arXiv:1708.02182, section 4.1.
One mask for a batch, the same at every position of the sequence.
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
from mltricks.functional.layers import Layers, matching_layers
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class WeightDrop(Technique):
    """W_hh = W_hh mask / (1 - p) in training, with mask ~ Bernoulli(1 - p) for every weight.

    Args:
        p: probability of zeroing a weight, in [0, 1).
        layers: patterns of the names of recurrent layers (``nn.LSTM``, ``nn.GRU``, ``nn.RNN``); ``None`` for all.
    """

    p: Decay
    layers: Sequence[str] | None

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        check_droppable(recurrent_weights(model, self.layers), params, "weight_drop")
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        return with_dropped(inner, partial(recurrent_weights, patterns=self.layers), self.p)


def recurrent_weights(model: nn.Module, patterns: Sequence[str] | None) -> list[str]:
    """The names of the hidden-to-hidden weights of all layers and directions.

    Raises:
        ValueError: the model has no recurrent layer, or a pattern matches none.
    """
    layers: Layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)}
    if not layers:
        raise ValueError(
            f"technique=weight_drop drops weights of recurrent layers, and {type(model).__name__} has no nn.LSTM, "
            "nn.GRU or nn.RNN. Type technique=dropconnect for linear layers."
        )
    if patterns is not None:
        layers = matching_layers(layers, patterns, "technique.weight_drop.layers", "Recurrent layers")
    names = [(name, key) for name, m in layers.items() for key, _ in m.named_parameters(recurse=False)]
    return [f"{name}.{key}" if name else key for name, key in names if key.startswith("weight_hh")]
