"""Label smoothing: spread a small part of each target's probability over all classes.

Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision", 2016,
arXiv:1512.00567, section 7; the same as ``torch.nn.functional.cross_entropy(label_smoothing=epsilon)``.
Shapes: ``y`` (B,) int64 or (B, K) float -> (B, K) float.
Cost: negligible.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import Probability
from mltricks.functional.targets import soft_targets
from mltricks.technique import Ctx, Own, Params, Technique


@dataclass(frozen=True)
class LabelSmoothing(Technique):
    """y = (1 - epsilon) y + epsilon / K.

    Args:
        epsilon: probability spread over all K classes, in [0, 1].
    """

    epsilon: Probability

    targets = ("classes",)

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        y = batch["y"]
        if y.ndim != 1 or y.is_floating_point():
            raise ValueError(
                f"technique=label_smoothing needs one class a sample; these targets are {y.dtype} of shape "
                f"{tuple(y.shape)}. Leave label_smoothing out."
            )
        return params, {}

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        y = soft_targets(batch["y"], ctx.num_outputs)
        return {**batch, "y": y * (1 - self.epsilon) + self.epsilon / ctx.num_outputs}
