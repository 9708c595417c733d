"""Weight decay that does not depend on the learning rate.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, arXiv:1711.05101, algorithm 2, line 12:
the decay is the strength times the schedule alone. What torch calls AdamW multiplies by the learning rate as well.
Layer-wise: the strength of a layer is that of the layer above times a factor, as ``technique=layerwise_lr`` has it for
learning rates.
Cost: a copy of the weights, and one pass over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import Decay, Fraction
from mltricks.functional.depths import depths
from mltricks.optim.matching import check_patterns, matching
from mltricks.technique import Aux, Ctx, Own, Params, Technique


@dataclass(frozen=True)
class WeightDecay(Technique):
    """w = update(w) - strength layer_decay^k w, for the weights of the k-th layer from the top.

    Args:
        strength: share of a weight of the last layer that an update takes away, in [0, 1).
        layer_decay: ratio of a layer's strength to that of the layer above, in (0, 1].
        no_decay: name patterns and words for parameters without decay, as ``optim.no_decay`` has them.
    """

    strength: Decay
    layer_decay: Fraction
    no_decay: Sequence[str]

    needs_previous = True
    after_changes = "weights"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        check_patterns("technique.weight_decay.no_decay", self.no_decay, params)
        spared = matching(self.no_decay, params)
        found = {name: torch.tensor(float(k)) for name, k in depths(params).items() if name not in spared}
        if not found:
            raise ValueError(
                f"technique=weight_decay has no effect: technique.weight_decay.no_decay={list(self.no_decay)} spares "
                "all parameters. Leave weight_decay out, or name fewer."
            )
        return params, found

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        new, done = dict(params), aux.get("finite")
        for name, depth in ctx.own.items():
            share = self.strength * self.layer_decay**depth
            share = share if done is None else share * done  # a step that loss scaling skips decays nothing
            new[name] = params[name] - share.to(params[name].dtype) * aux["previous"][name]
        return new, ctx.own
