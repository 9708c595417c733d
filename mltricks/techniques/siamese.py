"""Siamese training: samples of one class are drawn together in an embedding, and those of two classes pushed apart.

Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, equation 4, on all
pairs of a batch. The margin of 1 and an embedding without softmax are theirs.
Deviation: pairs come from the labels of the batch, all B (B - 1) / 2 of them, instead of a list of neighbours; similar
and other pairs weigh the same in total, whatever their numbers. With ``probe`` the objective trains the model's last
linear layer on detached features.
Shapes: ``x`` (B, ...) and ``y`` (B,) int64 -> loss. Legend: B batch, D embedding.
Cost: the differences of all pairs, B^2 D numbers; the probe adds one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Positive
from mltricks.functional.pair_loss import pair_loss
from mltricks.functional.self_supervised import collapse, feature_width, features_of, named, with_probe
from mltricks.state import map_state
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique


@dataclass(frozen=True)
class Siamese(Technique):
    """Replace the loss with that of all pairs: 1/2 d^2 within a class, 1/2 max(0, margin - d)^2 between two.

    d is the distance of two embeddings, a linear map of the features.

    Args:
        margin: distance from which on samples of two classes cost nothing, > 0.
        embedding: length of an embedding, >= 1.
        probe: let the objective train the last linear layer only.
    """

    margin: Positive
    embedding: Count
    probe: bool

    targets = ("classes",)
    joined_by = "probe"
    needs_unmixed = True
    needs_whole_batch = True

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        width = feature_width("siamese", model, params, map_state(lambda t: t[:2], batch["x"]))
        return {**params, **named("siamese", nn.Linear(width, self.embedding))}, {}

    def loss(self, inner: LossFn) -> LossFn:
        def compare(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            features = features_of("siamese", params, batch["x"], ctx)
            z = F.linear(features, params["siamese/weight"], params["siamese/bias"])
            loss, found = balanced(z, batch["y"], self.margin)
            metrics = {"pair_loss": loss, **found, **collapse(z)}
            return with_probe("siamese", inner, params, batch, ctx, loss, metrics, self.probe)

        return compare


def balanced(z_BD: Tensor, y_B: Tensor, margin: float | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss of the pairs within classes and that of the others, half of each.

    Args:
        z_BD: embeddings.
        y_B: their classes.
        margin: of ``pair_loss``.

    Returns:
        The loss, where a kind of which the batch has no pair counts as 0; and ``pair_accuracy``, the mean of the shares
        of both kinds on the right side of half the margin.
    """
    squares_BB = (z_BD.unsqueeze(1) - z_BD.unsqueeze(0)).square().sum(2)
    same_BB = y_B.unsqueeze(1) == y_B.unsqueeze(0)
    pairs_BB = torch.ones_like(squares_BB).triu(1)
    near_BB = (squares_BB < margin**2 / 4) == same_BB
    weight_BB = pairs_BB * torch.where(same_BB, share(pairs_BB * same_BB), share(pairs_BB * ~same_BB))
    loss = (weight_BB * pair_loss(squares_BB, same_BB, margin)).sum()
    return loss, {"pair_accuracy": (weight_BB * near_BB).sum().detach()}


def share(chosen_BB: Tensor) -> Tensor:
    """The weight of each of the chosen pairs, 0-d: together they weigh one half."""
    return 0.5 / chosen_BB.sum().clamp_min(1)
