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
from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import Fraction
from mltricks.functional.depths import depths
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
