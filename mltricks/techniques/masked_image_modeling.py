"""Masked image modelling (SimMIM): replace blocks of patches by a token, and predict their pixels with one layer.

Source: Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, "SimMIM: A Simple Framework for Masked Image Modeling", 2021,
arXiv:2111.09886, section 3, and the authors' code: ceil(ratio n) of the n square blocks of each image are masked; a
learned token takes the place of a masked patch after the embedding and before the positions; a linear layer maps every
token of the last block to the pixels of its patch; the loss is the mean absolute error of the masked pixels,
sum(|x - x'| mask) / (sum(mask) + 1e-5) / C.
Deviation: images are as ``augment`` makes them; the source's is ``random_resized_crop+flip`` with crops of 0.67 to 1.
The features of the model's head are those of its ``head_pool``.
Judge it by fine-tuning: the features of masked models separate classes badly without.
Shapes: ``x`` (B, C, H, W) float -> loss; only the probe reads ``y``. Legend: B batch, N patches, D width of a token,
E tokens before the patches, V values of a patch.
Cost: one linear layer; the probe adds one forward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Fraction
from mltricks.functional.last_linear import last_linear
from mltricks.functional.patch_tokens import PatchTokens, changed, find_tokens, replaced
from mltricks.functional.patches import SLACK, block_mask, paint, patchify, unpatchify
from mltricks.functional.reconstruction import Reconstruction
from mltricks.functional.self_supervised import collapse, feature_width, with_probe
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

NAME = "masked_image_modeling"
STD = 0.02
"""Standard deviation of the initial mask token (source)."""
EPS = 1e-5
"""Added to the number of masked pixels (source)."""
FEWEST_BLOCKS = 4
"""Blocks of an image for which a block of two patches is the usual one."""


@dataclass(frozen=True)
class MaskedImageModeling(Technique):
    """Replace the loss with the absolute error of masked pixels.

    Args:
        mask_ratio: share of the blocks that are masked, in (0, 1]; at least one block must stay.
        mask_size: side of a block in pixels, a multiple of the patch; ``None`` for two patches, or one where an image
            has fewer than 4 such blocks.
        probe: let the objective train the last linear layer only.

    Attributes:
        tokens: of the model; set by ``setup``.
        block: side of a block in patches; set by ``setup``.
    """

    mask_ratio: Fraction
    mask_size: Count | None
    probe: bool
    tokens: PatchTokens = field(init=False, repr=False, compare=False)
    block: int = field(init=False, repr=False, compare=False)

    kinds = ("image",)
    joined_by = "probe"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        x = batch["x"][:2]
        feature_width(NAME, model, params, x)
        tokens = find_tokens(NAME, model, params, x)
        # neither is a hyperparameter, so both may be set on a frozen object; ``bind`` copies
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "block", block_in_patches(tokens, self.mask_size))
        check_ratio(tokens, self.block, self.mask_ratio)
        token = nn.init.trunc_normal_(torch.empty(tokens.width), std=STD)
        head = nn.Linear(tokens.width, tokens.values)
        added = {"mask_token": token, "pixels.weight": head.weight, "pixels.bias": head.bias}
        return {**params, **{f"{NAME}/{name}": p.detach().clone() for name, p in added.items()}}, {}

    def loss(self, inner: LossFn) -> LossFn:
        def reconstruct(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            mask = self.draw(batch["x"])
            predicted, features = self.predict(params, batch["x"], mask, ctx)
            loss = masked_error(predicted, patchify(batch["x"], self.tokens.side), mask, batch["x"].shape[1])
            metrics = {"reconstruction_loss": loss, **collapse(features)}
            return with_probe(NAME, inner, params, batch, ctx, loss, metrics, self.probe)

        return reconstruct

    def draw(self, x: Tensor) -> Tensor:
        """Which patches of each image are masked, (B, N)."""
        return block_mask(len(x), self.tokens.rows, self.tokens.columns, self.block, self.mask_ratio, x.device)

    def predict(self, params: Params, x: Tensor, mask: Tensor, ctx: Ctx) -> tuple[Tensor, Tensor]:
        """The predicted patches, (B, N, V), and the features of the masked images, both float32."""
        tokens, head = self.tokens, last_linear(ctx.model.module, NAME)
        own = {name: params[f"{NAME}/{name}"] for name in ("mask_token", "pixels.weight", "pixels.bias")}
        with changed(ctx.model.module, tokens.patches, replaced(mask, own["mask_token"])):
            _, captured = ctx.apply(params, x, capture=(tokens.encoded, head))
        encoded = captured[tokens.encoded][1][:, tokens.extra :].float()
        return F.linear(encoded, own["pixels.weight"], own["pixels.bias"]), captured[head][0].float()

    @torch.no_grad()
    def reconstruct(self, params: Params, x: Tensor, ctx: Ctx) -> Reconstruction:
        side, rows, channels, mask = self.tokens.side, self.tokens.rows, x.shape[1], self.draw(x)
        predicted, _ = self.predict(params, x, mask, ctx)
        patches, hidden = patchify(x, side), paint(mask, side, rows) > 0
        pixels = unpatchify(predicted, side, rows)
        steps = {"input": x, "masked": torch.where(hidden, 0.0, x), "reconstruction": torch.where(hidden, pixels, x)}
        error, trivial = (masked_error(p, patches, mask, channels) for p in (predicted, torch.zeros_like(patches)))
        return Reconstruction(steps, error, trivial, "mean absolute error of masked pixels", "the mean training pixel")


def masked_error(predicted: Tensor, patches: Tensor, mask: Tensor, channels: int) -> Tensor:
    """The mean absolute error of masked pixels, 0-d; patches are (B, N, V), the mask (B, N).

    The mask of the source is of pixels, without an axis of channels: hence the division by C.
    """
    num_pixels = mask.sum() * (patches.shape[2] // channels)
    return ((predicted - patches).abs() * mask.unsqueeze(2)).sum() / (num_pixels + EPS) / channels


def block_in_patches(tokens: PatchTokens, size: int | None) -> int:
    """The side of a block in patches.

    Raises:
        ValueError: it is no multiple of the patch, or the image no multiple of it.
    """
    side, rows, columns = tokens.side, tokens.rows, tokens.columns
    fitting = [n for n in range(1, min(rows, columns) + 1) if rows % n == columns % n == 0]
    if size is None:
        return 2 if 2 in fitting and tokens.num // 4 >= FEWEST_BLOCKS else 1
    if size % side or size // side not in fitting:
        allowed = " | ".join(str(n * side) for n in fitting)
        raise ValueError(
            f"technique.{NAME}.mask_size={size} does not fit images of {rows * side}x{columns * side} pixels in "
            f"patches of {side}. Allowed: {allowed}."
        )
    return size // side


def check_ratio(tokens: PatchTokens, block: int, ratio: float) -> None:
    """Refuse a ratio that masks all blocks."""
    blocks = tokens.num // block**2
    if math.ceil(blocks * ratio - SLACK) >= blocks:
        least = f"technique.{NAME}.mask_ratio={(blocks - 1) / blocks:g}, or " if blocks > 1 else ""
        raise ValueError(
            f"technique.{NAME}.mask_ratio={ratio:g} masks all blocks of {block * tokens.side} pixels, of which an "
            f"image has {blocks}. Type {least}a smaller model.patch or technique.{NAME}.mask_size."
        )
