"""AugMix: train on clean images, and make the predictions for two mixtures of augmented versions agree with theirs.

Source: Hendrycks, Mu, Cubuk, Zoph, Gilmer, Lakshminarayanan, "AugMix: A Simple Data Processing Method to Improve
Robustness and Uncertainty", 2020, arXiv:1912.02781, algorithm 1 and equation 3, with the operations, ranges and clamps
of the authors' code.
Deviation: mixtures are rounded to whole values from 0 to 255, because they are made before images are normalised.
Operations are drawn image by image, but within a batch each of them equally often, rounded down or up
(``mltricks.functional.images.policies``). Dirichlet and beta distributions have the source's parameter 1. Bilinear
pixels beside the border are a blend with black, as in torchvision; PIL repeats the border.
Shapes: ``x`` (B, C, H, W) uint8, C 1 or 3 -> also ``x_aug1`` and ``x_aug2``, the same; logits (B, K).
Cost: one forward and backward pass of three times the batch; and 6 ``width`` operations on every image, or 2 ``width``
``depth``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Range, Size
from mltricks.functional.images.operations import choose, perform
from mltricks.functional.images.pixels import OnPixels, on_pixels
from mltricks.functional.images.policies import through_policies
from mltricks.functional.images.spaces import augmix_space
from mltricks.functional.wrapped_model import Recorded, WithExtraRows
from mltricks.technique import Aux, Ctx, LossFn, Params

LARGEST_DEPTH = 3
"""Operations of the longest chain, if their number is drawn."""


@dataclass(frozen=True)
class Augmix(OnPixels):
    """loss(clean) + weight JS(clean, mixture 1, mixture 2), with JS the Jensen-Shannon divergence of the predictions.

    A mixture is (1 - m) clean + m sum over chains of w chain(clean), with w ~ Dirichlet(1) and m uniform.

    Args:
        weight: of the divergence, >= 0.
        severity: operations have levels uniform in [0.1, severity] of 10.
        width: chains of a mixture, >= 0; 0 trains on the clean images alone.
        depth: operations of a chain, >= 0; 0 draws 1 to 3 for every chain.
        all_ops: also use brightness, contrast, saturation and sharpness, which corruption benchmarks contain.
    """

    weight: NonNegative
    severity: Annotated[float, Range(0.1, 10.0)]
    width: Size
    depth: Size
    all_ops: bool

    targets = ("classes",)
    needs_one_target = True
    needs_one_output = True
    needs_unmixed = True
    needs_softmax = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        if self.width == 0:
            return batch
        both = on_pixels(torch.cat([batch["x"]] * 2), self.white, self.mixtures)
        first, second = both.chunk(2)
        return {**batch, "x_aug1": first, "x_aug2": second}

    def mixtures(self, x: Tensor) -> Tensor:
        """One mixture of every image."""
        chains = self.chains(x.repeat(self.width, 1, 1, 1)).unflatten(0, (self.width, len(x)))
        exponential = -(1 - torch.rand(self.width, len(x), device=x.device)).log()  # in [0, inf)
        share = torch.rand(len(x), device=x.device)
        weights = share * exponential / exponential.sum(0).clamp(min=1e-30)
        mixed = (1 - share)[:, None, None, None] * x
        for weight, chain in zip(weights, chains, strict=True):
            mixed = mixed.addcmul(weight[:, None, None, None], chain)
        return mixed.round().clamp(0, 255).to(torch.uint8)

    def chains(self, x: Tensor) -> Tensor:
        """A chain of random operations on every image."""
        space = augmix_space(x.shape[2], x.shape[3], self.all_ops)
        names = sorted(space)

        def apply(rows: Tensor, _: int, order: list[int]) -> Tensor:
            level = (0.1 + torch.rand(len(rows), device=x.device) * (self.severity - 0.1)) / 10
            return perform(rows, [names[i] for i in order], space, level, 0, "bilinear")

        longest = self.depth or LARGEST_DEPTH
        depth = torch.randint(self.depth or 1, longest + 1, (len(x),), device=x.device)
        for place in range(longest):
            x = choose(depth > place, through_policies(x, [[name] for name in names], apply), x)
        return x

    def loss(self, inner: LossFn) -> LossFn:
        if self.width == 0:
            return inner

        def consistent(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            wide = WithExtraRows(ctx.model, torch.cat([batch["x_aug1"], batch["x_aug2"]]))
            model = Recorded(wide)
            loss, aux = inner(params, batch, replace(ctx, model=model))
            assert model.first is not None, "the rest of the techniques runs the model"
            assert wide.extra_output is not None, "the first call has the mixtures beside it"
            clean = model.first[1][: len(batch["x"])]  # others may have added rows of theirs behind them
            divergence = jensen_shannon([clean, *wide.extra_output.chunk(2)])
            total = loss + self.weight * divergence
            return total, {**aux, "metrics": {**aux["metrics"], "loss": total, "divergence": divergence}}

        return consistent


def jensen_shannon(logits: list[Tensor]) -> Tensor:
    """The mean over samples of the Jensen-Shannon divergence of several predictions, 0-d.

    It is the mean of KL(p_i || M) over the predictions p_i, with M their mean, cut to [1e-7, 1] as the authors do.

    Args:
        logits: for each prediction (B, K).

    >>> jensen_shannon([torch.tensor([[9.0, 0.0]]), torch.tensor([[9.0, 0.0]])])
    tensor(0.)
    """
    tiny = torch.finfo(torch.float32).tiny  # at a probability of 0 the divergence has no gradient
    predictions = [one.float().softmax(1).clamp(min=tiny) for one in logits]
    middle = torch.stack(predictions).mean(0).clamp(1e-7, 1).log()
    return torch.stack([F.kl_div(middle, p, reduction="batchmean") for p in predictions]).mean()
