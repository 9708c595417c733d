"""SimSiam: predict the representation of one view from another, without negatives, queue or second encoder.

Source: Chen and He, "Exploring Simple Siamese Representation Learning", 2020, arXiv:2011.10566, algorithm 1; widths and
layers of the authors' code. The two views pass the model one after the other, as there.
Deviation: the widths are a quarter of the source's (2048, predictor 512), for models of this size. The source keeps the
predictor's learning rate constant while that of the rest decays, which it found to help a little (section 4.2); here
that takes ``optim.groups={simsiam/predictor*: {lr: constant}}``. With ``probe`` the objective trains the model's last
linear layer on detached features.
Shapes: ``x`` (B, C, H, W) float -> loss; only the probe reads ``y``.
Cost: two forward passes; the probe adds one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.functional import heads
from mltricks.functional.self_supervised import collapse, feature_width, features_of, named, with_probe
from mltricks.functional.two_views import TwoViews
from mltricks.technique import Aux, Ctx, LossFn, Own, Params


@dataclass(frozen=True)
class Simsiam(TwoViews):
    """Replace the loss with -(cos(p1, z2) + cos(p2, z1)) / 2, where no gradient flows into z.

    z is the projection of a view, with batch norm, and p the prediction made from it.

    Args:
        projector_layers: linear layers of the projector, >= 1.
        projection_width: length of z and p, and width of the projector's hidden layers, >= 1.
        predictor_width: hidden units of the predictor, >= 1.
        stop_gradient: whether z is a constant; without it the representation collapses.
        probe: let the objective train the last linear layer only.

    Attributes:
        layers: the structure of projector and predictor; ``setup`` makes it.
    """

    projector_layers: Count
    projection_width: Count
    predictor_width: Count
    stop_gradient: bool
    probe: bool
    layers: dict[str, nn.Module] = field(init=False, repr=False, compare=False)

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        features = feature_width("simsiam", model, params, batch["x"][:2])
        width = self.projection_width
        widths = [features, *[width] * (self.projector_layers - 1)]
        last = nn.Linear(widths[-1], width, bias=False)  # without bias: batch norm follows
        projector = nn.Sequential(*heads.hidden(*widths), last, heads.norm(width, affine=False))
        predictor = nn.Sequential(*heads.hidden(width, self.predictor_width), nn.Linear(self.predictor_width, width))
        layers: dict[str, Any] = {"projector": projector, "predictor": predictor}
        object.__setattr__(self, "layers", layers)  # structure, no hyperparameter; ``bind`` copies it
        return {**params, **named("simsiam", nn.ModuleDict(layers))}, {}

    def loss(self, inner: LossFn) -> LossFn:
        def predict_views(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            z1, z2 = (self.projected(params, view, ctx) for view in self.both(batch["x"]).chunk(2))
            p1, p2 = (heads.run(self.layers["predictor"], params, "simsiam/predictor.", z) for z in (z1, z2))
            if self.stop_gradient:
                z1, z2 = z1.detach(), z2.detach()
            loss = (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2
            metrics = {"similarity_loss": loss, **collapse(z1)}
            return with_probe("simsiam", inner, params, batch, ctx, loss, metrics, self.probe)

        return predict_views

    def projected(self, params: Params, view: Tensor, ctx: Ctx) -> Tensor:
        """z of a view, (B, projection_width)."""
        features = features_of("simsiam", params, view, ctx)
        return heads.run(self.layers["projector"], params, "simsiam/projector.", features)


def negative_cosine(p_BD: Tensor, z_BD: Tensor) -> Tensor:
    """The mean of -p.z / (|p| |z|), 0-d, from -1 to 1."""
    return -(F.normalize(p_BD, dim=1) * F.normalize(z_BD, dim=1)).sum(1).mean()
