"""Temporal activation regularisation (TAR): penalise changes of hidden activations from one position to the next.

Source: Merity, Keskar, Socher, "Regularizing and Optimizing LSTM Language Models", 2017, arXiv:1708.02182, section 4.6,
in the form of the authors' code: the mean of the squared differences, of outputs without dropout.
Deviation: on any model of sequences. Without a recurrent layer it is on the module before the last linear layer.
Shapes: activations (B, L, D), or (L, B, D) of a recurrent layer that is not ``batch_first``.
Cost: one pass over the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative
from mltricks.functional.activations import Chosen, with_penalty
from mltricks.functional.feature_maps import Seen, shape_of
from mltricks.functional.last_linear import last_linear
from mltricks.functional.layers import matching_layers
from mltricks.technique import LossFn, Own, Params, Technique


@dataclass(frozen=True)
class TemporalActivationReg(Technique):
    """loss + strength mean((h_t+1 - h_t)^2), the mean over all elements and layers. Metric ``penalty``.

    Args:
        strength: >= 0.
        layers: patterns of the names of modules whose outputs are penalised; ``None`` for the last recurrent layer, or
            without one the module whose output the last linear layer gets.

    Attributes:
        chosen: the activations; found by ``setup``.
    """

    strength: NonNegative
    layers: Sequence[str] | None
    chosen: Chosen = field(init=False, repr=False, compare=False)

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        seen = Seen(model, batch["x"])
        names = [hidden(model, seen)] if self.layers is None else named(model, self.layers)
        seen.check_tensors(names, "temporal_activation_reg")
        chosen = {name: (1, time_axis(model.get_submodule(name))) for name in names}
        for name, _, _, out in seen.calls:
            if name in chosen and (len(shape_of(out)) != 3 or shape_of(out)[chosen[name][1]] < 2):
                raise ValueError(
                    f"technique=temporal_activation_reg needs activations with an axis of time, (B, L, D), and those "
                    f"of {name} are {shape_of(out)}. Type technique=activation_reg, or a model of sequences."
                )
        # not a hyperparameter, so setting it on a frozen object is safe; ``bind`` copies it
        object.__setattr__(self, "chosen", chosen)
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        return with_penalty(inner, lambda _: self.chosen, mean_square_change, self.strength)


def mean_square_change(h: Tensor, axis: int) -> Tensor:
    """The mean of the squared differences of neighbours along an axis, 0-d."""
    return h.diff(dim=axis).square().mean()


def time_axis(module: nn.Module) -> int:
    """The axis of positions in the output of a module."""
    return 0 if isinstance(module, nn.RNNBase) and not module.batch_first else 1


def named(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The modules that match a pattern; raises ``ValueError`` where one matches none."""
    modules = {name: module for name, module in model.named_modules() if name}
    return list(matching_layers(modules, patterns, "technique.temporal_activation_reg.layers", "Modules"))


def hidden(model: nn.Module, seen: Seen) -> str:
    """The name of the last recurrent layer, or else of the module whose output the last linear layer gets.

    Raises:
        ValueError: there is neither.
    """
    recurrent = [name for name, module, _, _ in seen.calls if isinstance(module, nn.RNNBase)]
    if recurrent:
        return recurrent[-1]
    head = last_linear(model, "temporal_activation_reg")
    wanted: Any = next((given for name, _, given, _ in seen.calls if name == head), None)
    found = [name for name, _, _, out in seen.calls if name and out is wanted and wanted is not None]
    if not found:
        raise ValueError(
            "technique=temporal_activation_reg finds no module whose output is what the last linear layer gets. Name "
            f"one in technique.temporal_activation_reg.layers; modules: {', '.join(n for n, *_ in seen.calls if n)}."
        )
    return found[0]
