"""Discriminative (layer-wise) learning rates: lower layers learn more slowly.

Source: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, arXiv:1801.06146,
section 3.2 (a factor of 1 / 2.6 per layer); Clark et al., "ELECTRA", 2020, arXiv:2003.10555, appendix A (0.8 or 0.9).
Deviation: the step is scaled instead of the learning rate. Both are equal for optimisers whose step is proportional to
the learning rate: ``sgd``, ``adam``, ``adamw`` with its decay, ``lion``, ``muon``.
Cost: a copy of the weights, and one interpolation per update.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Fraction
from mltricks.technique import Aux, Ctx, Own, Params, Technique


@dataclass(frozen=True)
class LayerwiseLr(Technique):
    """p = p_before + decay^k (p - p_before), for the k-th layer from the top.

    Args:
        decay: learning rate of a layer relative to the layer above, in (0, 1].
    """

    decay: Fraction

    needs_previous = True
    after_changes = "update"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        found = {name: k for name, k in depths(params).items() if k > 0}
        if not found:
            raise ValueError(
                "technique=layerwise_lr has no effect: the model has a single layer with parameters. "
                "Leave layerwise_lr out."
            )
        return params, {name: torch.tensor(float(k)) for name, k in found.items()}

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        new = dict(params)
        for name, depth in ctx.own.items():
            # torch.lerp is exact at weight 1, so that decay = 1 changes nothing
            share = (self.decay**depth).to(params[name].dtype)
            new[name] = aux["previous"][name].lerp(params[name], share)
        return new, ctx.own


def depths(params: dict[str, Tensor]) -> dict[str, int]:
    """The number of layers above each parameter, in the model's order of registration.

    A layer is the set of parameters whose names agree up to the first number (``blocks.3``, ``encoder_layer_3``), or
    else up to the parameter's own name (``head``). One-dimensional parameters that would form a layer alone, such as a
    norm's, belong to the layer before. Parameters that techniques add (names with a slash) learn at the full rate.

    >>> names = ["stem.weight", "norm.weight", "blocks.0.up.weight", "blocks.0.down.weight", "head.weight", "head.bias"]
    >>> depths({n: torch.zeros(2) if "norm" in n or "bias" in n else torch.zeros(2, 2) for n in names})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'stem.weight': 2, 'norm.weight': 2, 'blocks.0.up.weight': 1, 'blocks.0.down.weight': 1, 'head.weight': 0,
     'head.bias': 0}
    """
    own = {name: p for name, p in params.items() if "/" not in name}
    layers: dict[str, list[str]] = {}
    for name in own:
        layers.setdefault(layer_of(name), []).append(name)
    levels: list[list[str]] = []
    for names in layers.values():
        alone = all(own[name].ndim <= 1 for name in names)
        if alone and levels:
            levels[-1] += names
        else:
            levels.append(list(names))
    above = {name: len(levels) - 1 - level for level, names in enumerate(levels) for name in names}
    return {name: above.get(name, 0) for name in params}


def layer_of(name: str) -> str:
    """The name of the layer that a parameter belongs to.

    >>> layer_of("blocks.3.attention.weight"), layer_of("head.weight")
    ('blocks.3', 'head')
    """
    words = name.split(".")
    number = next((i for i, word in enumerate(words[:-1]) if word.rpartition("_")[2].isdigit()), len(words) - 2)
    return ".".join(words[: number + 1])
