"""Barlow Twins: make the dimensions of two views' projections equal to their twins, and uncorrelated with all others.

Source: Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021,
arXiv:2103.03230, algorithm 1; projector, weight of the second term and the two kinds of views of the authors' code.
The two views pass the model one after the other, as there.
Deviation: the projector is narrower than the source's 8192, for models of this size. With ``probe`` the objective
trains the model's last linear layer on detached features.
Shapes: ``x`` (B, C, H, W) float -> loss; only the probe reads ``y``.
Cost: two forward passes, and a matrix of projection_width^2; the probe adds one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, NonNegative, Positive, Probability
from mltricks.data.info import Info
from mltricks.functional import heads
from mltricks.functional.self_supervised import collapse, feature_width, features_of, named, with_probe
from mltricks.functional.two_views import TwoViews
from mltricks.technique import Aux, Ctx, LossFn, Own, Params


@dataclass(frozen=True)
class BarlowTwins(TwoViews):
    """Replace the loss with sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2, C the correlation of two views.

    Args:
        p_blur_second: as ``p_blur``, for the second view.
        p_solarize_second: probability that the second view's bright pixels are inverted; ``None`` for never.
        off_diagonal: weight of the second term, >= 0.
        scale: factor of the loss, > 0. With LARS it slows down biases and norms alone, as the authors' two rates do.
        projection_width: width of the three layers of the projector, >= 1.
        probe: let the objective train the last linear layer only.

    Attributes:
        projector: its structure; ``setup`` makes it.
    """

    p_blur_second: Probability | None
    p_solarize_second: Probability | None
    off_diagonal: NonNegative
    scale: Positive
    projection_width: Count
    probe: bool
    projector: nn.Module = field(init=False, repr=False, compare=False)

    @property
    def changes_colors(self) -> bool:
        return super().changes_colors or (self.color is None and self.p_solarize_second is not None)

    def check(self, info: Info) -> None:
        super().check(info)
        if self.color is not None and self.p_solarize_second is not None:
            raise ValueError(
                f"technique.barlow_twins.color={self.color} changes normalised images, and p_solarize_second="
                f"{self.p_solarize_second} inverts pixels. Type technique.barlow_twins.p_solarize_second=null with it."
            )

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        features, width = feature_width("barlow_twins", model, params, batch["x"][:2]), self.projection_width
        projector = nn.Sequential(*heads.hidden(features, width, width), nn.Linear(width, width, bias=False))
        object.__setattr__(self, "projector", projector)  # structure, no hyperparameter; ``bind`` copies it
        return {**params, **named("barlow_twins", projector)}, {}

    def loss(self, inner: LossFn) -> LossFn:
        def reduce_redundancy(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            x = batch["x"]
            views = self.view(x, self.p_blur), self.view(x, self.p_blur_second, self.p_solarize_second)
            features = [features_of("barlow_twins", params, view, ctx) for view in views]
            z1, z2 = (heads.run(self.projector, params, "barlow_twins/", f) for f in features)
            loss, on_diagonal = redundancy(z1, z2, self.off_diagonal)
            metrics = {"barlow_loss": loss, "correlation": on_diagonal, **collapse(features[0])}
            return with_probe("barlow_twins", inner, params, batch, ctx, self.scale * loss, metrics, self.probe)

        return reduce_redundancy


def redundancy(z1_BD: Tensor, z2_BD: Tensor, off_diagonal: float | Tensor) -> tuple[Tensor, Tensor]:
    """The loss of two views' projections, and the mean of the correlations C_ii of a dimension with its twin.

    Every dimension is normalised over the batch with the biased variance and 1e-5 added to it, as batch norm does.
    """
    a, b = (F.batch_norm(z, None, None, training=True) for z in (z1_BD, z2_BD))
    c_DD = a.T @ b / len(a)
    c_D = c_DD.diagonal()
    rest = c_DD.square().sum() - c_D.square().sum()
    return (1 - c_D).square().sum() + off_diagonal * rest, c_D.mean()
