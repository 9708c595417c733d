"""SimCLR: learn features without labels, by matching two views of a sample against the views of other samples.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
arXiv:2002.05709, section 2 and algorithm 1; views and settings of appendices A and B.9 (``functional/two_views.py``).
Deviation: the projector's layers have biases and no batch norm. With ``probe`` the objective trains the model's last
linear layer on detached features of unaugmented images, in evaluation mode: the accuracy is then a linear probe's.
Without it that layer keeps its initial weights, and the accuracy is at chance.
Shapes: ``x`` (B, C, H, W) float -> loss; only the probe reads ``y``.
Cost: one forward pass of twice the batch; the probe adds one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Positive
from mltricks.functional.self_supervised import collapse, feature_width, features_of, named, with_probe
from mltricks.functional.two_views import TwoViews
from mltricks.technique import Aux, Ctx, LossFn, Own, Params

PROJECTOR = "simclr/"


@dataclass(frozen=True)
class Simclr(TwoViews):
    """Replace the loss with NT-Xent of the projected features of two views. Features are the last linear layer's input.

    Args:
        temperature: divisor of the cosine similarities, > 0.
        projection_width: length of the projected vectors, >= 1.
        probe: let the objective train the last linear layer only.
    """

    temperature: Positive
    projection_width: Count
    probe: bool

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        width = feature_width("simclr", model, params, batch["x"][:2])
        layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.projection_width))
        return {**params, **named("simclr", layers)}, {}

    def loss(self, inner: LossFn) -> LossFn:
        def contrast(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            features = features_of("simclr", params, self.both(batch["x"]), ctx)
            loss, accuracy = nt_xent(project(params, features), self.temperature)
            metrics = {"contrastive_loss": loss, "contrastive_accuracy": accuracy, **collapse(features)}
            return with_probe("simclr", inner, params, batch, ctx, loss, metrics, self.probe)

        return contrast


def project(params: Params, features_BD: Tensor) -> Tensor:
    """W2 relu(W1 h): project features to the space of the contrastive loss."""
    hidden = F.linear(features_BD, params[PROJECTOR + "0.weight"], params[PROJECTOR + "0.bias"]).relu()
    return F.linear(hidden, params[PROJECTOR + "2.weight"], params[PROJECTOR + "2.bias"])


def nt_xent(z_2BD: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """The normalised temperature-scaled cross-entropy between pairs of rows (i, i + B).

    Args:
        z_2BD: vectors of 2B views; rows i and i + B belong to the same sample.
        temperature: > 0.

    Returns:
        The mean over all views of -log softmax(similarity / temperature) at the partner, where a view itself is not a
        candidate; and the share of views whose most similar other view is the partner.
    """
    z_2BD = F.normalize(z_2BD, dim=1)
    view = torch.arange(len(z_2BD), device=z_2BD.device)
    partner = (view + len(view) // 2) % len(view)
    similarity = (z_2BD @ z_2BD.T / temperature).masked_fill(view == view.unsqueeze(1), -torch.inf)
    return F.cross_entropy(similarity, partner), (similarity.argmax(1) == partner).float().mean()
