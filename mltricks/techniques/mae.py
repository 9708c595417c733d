"""Masked autoencoder (MAE): hide most patches of an image from a vision transformer, and predict their pixels.

Source: He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", 2021, arXiv:2111.06377,
and the authors' code: the encoder sees int(N (1 - ratio)) patches of each image and the class token; a small decoder
sees them, mask tokens at the places of the others, and fixed sine-cosine positions; the loss is the squared error of
the hidden patches, each normalised with its own mean and unbiased variance.
Deviation: the decoder has the same blocks, but 2 of width 64 by default (source: 8 of width 512) for encoders of that
width; it exists in training only. The features of the sine-cosine positions stand in another order, and the encoder has
the positions of the model (source: fixed). Images are as ``augment`` makes them; the source's is
``random_resized_crop+flip`` with crops of 0.2 to 1.
Judge it by fine-tuning: the features of masked models separate classes badly without (section 4.3 of the source).
Shapes: ``x`` (B, C, H, W) float -> loss; only the probe reads ``y``. Legend: B batch, N patches, K kept, D width of a
token of the encoder, E tokens before the patches, V values of a patch.
Cost: the encoder on a quarter of the patches, the decoder on all; the probe adds one forward pass of whole images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Range
from mltricks.functional.last_linear import last_linear
from mltricks.functional.patch_tokens import PatchTokens, changed, find_tokens, only
from mltricks.functional.patches import Kept, keep_some, paint, patch_statistics, patchify, unpatchify
from mltricks.functional.reconstruction import Reconstruction
from mltricks.functional.self_supervised import collapse, feature_width, named, with_probe
from mltricks.functional_model import FunctionalModel
from mltricks.models.layers import Layers
from mltricks.models.positions import sinusoidal_2d
from mltricks.models.transformer import Block
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

DECODER = "mae/"
STD = 0.02
"""Standard deviation of the initial mask token (source)."""
NOTE = "In the pictures, hidden patches have their own mean and deviation, which are not predicted."


@dataclass(frozen=True)
class Mae(Technique):
    """Replace the loss with the squared error of hidden patches, predicted from the others.

    Args:
        mask_percent: share of the patches that are hidden, in percent; whole, since it decides shapes.
        normalize_targets: predict every patch after its own normalisation.
        decoder_width: width of the decoder's tokens, a multiple of 4 and of ``decoder_heads``.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        probe: let the objective train the last linear layer only.

    Attributes:
        tokens: of the model; set by ``setup``.
        decoder: without its weights, which are parameters of the run; set by ``setup``.
    """

    mask_percent: Annotated[int, Range(1, 99)]
    normalize_targets: bool
    decoder_width: Count
    decoder_depth: Count
    decoder_heads: Count
    probe: bool
    tokens: PatchTokens = field(init=False, repr=False, compare=False)
    decoder: FunctionalModel = field(init=False, repr=False, compare=False)

    kinds = ("image",)
    joined_by = "probe"

    def __post_init__(self) -> None:
        super().__post_init__()
        width, heads = self.decoder_width, self.decoder_heads
        for divisor, why in ((heads, "of decoder_heads"), (4, "of 4, for its positions")):
            if width % divisor:
                unit = math.lcm(4, heads)
                fix = -(-width // unit) * unit
                raise ValueError(
                    f"technique.mae.decoder_width={width} is no multiple {why}. Type technique.mae.decoder_width={fix}."
                )

    @property
    def num_kept(self) -> int:
        """K."""
        return self.tokens.num * (100 - self.mask_percent) // 100

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        x = batch["x"][:2]
        feature_width("mae", model, params, x)
        tokens = find_tokens("mae", model, params, x)
        if self.normalize_targets and tokens.values == 1:
            raise ValueError(
                "technique.mae.normalize_targets=true needs patches of two values or more, and a patch is one "
                "pixel here. Type a larger model.patch, or technique.mae.normalize_targets=false."
            )
        decoder = Decoder(tokens, self.decoder_width, self.decoder_depth, self.decoder_heads)
        # neither is a hyperparameter, so both may be set on a frozen object; ``bind`` copies
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "decoder", FunctionalModel(decoder))
        if self.num_kept == 0:
            most = 100 - -(-100 // tokens.num)
            raise ValueError(
                f"technique.mae.mask_percent={self.mask_percent} leaves none of {tokens.num} patches. "
                f"Type {f'technique.mae.mask_percent={most}, or ' if most else ''}a smaller model.patch."
            )
        places = sinusoidal_2d(tokens.rows, tokens.columns, self.decoder_width)
        return {**params, **named("mae", decoder)}, {"positions": places}

    def loss(self, inner: LossFn) -> LossFn:
        def reconstruct(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            kept = self.draw(batch["x"])
            predicted, features = self.predict(params, batch["x"], kept, ctx)
            loss = masked_mean(predicted - self.patches_to_predict(batch["x"]), kept.mask)
            metrics = {"reconstruction_loss": loss, **collapse(features)}
            return with_probe("mae", inner, params, batch, ctx, loss, metrics, self.probe)

        return reconstruct

    def draw(self, x: Tensor) -> Kept:
        """Which patches of each image are kept."""
        return keep_some(len(x), self.tokens.num, self.num_kept, x.device)

    def patches_to_predict(self, x: Tensor) -> Tensor:
        """The patches that are predicted, (B, N, V)."""
        patches = patchify(x, self.tokens.side)
        mean, std = patch_statistics(patches)
        return (patches - mean) / std if self.normalize_targets else patches

    def predict(self, params: Params, x: Tensor, kept: Kept, ctx: Ctx) -> tuple[Tensor, Tensor]:
        """The predicted patches, (B, N, V), and the features of what was kept, both float32."""
        tokens, head = self.tokens, last_linear(ctx.model.module, "mae")
        with changed(ctx.model.module, tokens.placed, only(kept.keep, tokens.extra)):
            _, captured = ctx.apply(params, x, capture=(tokens.encoded, head))
        own = {name.removeprefix(DECODER): p for name, p in params.items() if name.startswith(DECODER)}
        seen = {"tokens": captured[tokens.encoded][1], "restore": kept.restore, "positions": ctx.own["positions"]}
        with ctx.model.precision():
            predicted, _, _ = self.decoder(own, {}, seen, ctx.train)  # type: ignore[arg-type]
        return predicted.float(), captured[head][0].float()

    @torch.no_grad()
    def reconstruct(self, params: Params, x: Tensor, ctx: Ctx) -> Reconstruction:
        side, rows, kept = self.tokens.side, self.tokens.rows, self.draw(x)
        predicted, _ = self.predict(params, x, kept, ctx)
        targets, (mean, std) = self.patches_to_predict(x), patch_statistics(patchify(x, side))
        flat = torch.zeros_like(targets) if self.normalize_targets else mean.expand_as(targets)
        pixels = unpatchify(predicted * std + mean if self.normalize_targets else predicted, side, rows)
        hidden = paint(kept.mask, side, rows) > 0
        steps = {"input": x, "masked": torch.where(hidden, 0.0, x), "reconstruction": torch.where(hidden, pixels, x)}
        errors = masked_mean(predicted - targets, kept.mask), masked_mean(flat - targets, kept.mask)
        words = "mean squared error of hidden patches"
        if not self.normalize_targets:
            return Reconstruction(steps, *errors, words, "the mean of each patch")
        return Reconstruction(steps, *errors, f"{words}, each normalised", "the mean of each patch", NOTE)


class Decoder(nn.Module):
    """Tokens of kept patches -> pixels of all patches.

    Args:
        tokens: of the encoder.
        width, depth, heads: of the blocks.
    """

    def __init__(self, tokens: PatchTokens, width: int, depth: int, heads: int):
        super().__init__()
        layers = Layers("mae", activation="gelu", norm="layer", norm_eps=1e-6, residual=True)
        self.extra = tokens.extra
        self.embed = nn.Linear(tokens.width, width)
        self.mask_token = nn.Parameter(STD * torch.randn(width))
        self.blocks = nn.Sequential(*[Block(width, heads, 0.0, layers, causal=False, bias=True) for _ in range(depth)])
        self.norm = layers.normalisation(width, maps=False)[0]
        self.pixels = nn.Linear(width, tokens.values)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, seen: dict[str, Tensor]) -> Tensor:
        """``tokens`` (B, E + K, D), ``restore`` (B, N) and ``positions`` (N, width) -> (B, N, V)."""
        x, restore = self.embed(seen["tokens"]), seen["restore"]
        first, kept = x[:, : self.extra], x[:, self.extra :]
        hidden = self.mask_token.to(x.dtype).expand(len(x), restore.shape[1] - kept.shape[1], -1)
        at = restore.unsqueeze(2).expand(-1, -1, x.shape[2])
        patches = torch.cat([kept, hidden], 1).gather(1, at) + seen["positions"]
        return self.pixels(self.norm(self.blocks(torch.cat([first, patches], 1))))[:, self.extra :]


def masked_mean(difference: Tensor, mask: Tensor) -> Tensor:
    """The mean square of (B, N, V) over the patches whose mask (B, N) is 1, 0-d."""
    return (difference.square().mean(2) * mask).sum() / mask.sum()
