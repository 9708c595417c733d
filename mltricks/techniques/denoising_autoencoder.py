"""Denoising autoencoder: reconstruct clean inputs from the features of noisy ones.

Source: Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising Autoencoders",
ICML 2008, section 2; Gaussian and salt-and-pepper noise as in Vincent et al., JMLR 11, 2010; swap noise for tables as
in Jahrer's solution for Porto Seguro's Safe Driver Prediction, 2017.
Deviation: the encoder is the whole model up to its last linear layer, trained at once (source: layer by layer); the
decoder has a hidden layer (source: none; ``decoder_width=0``) and weights of its own (source: tied as an option). The
loss is the squared error, its mean over all entries (source: cross-entropy for pixels in [0, 1]), and inputs are the
normalised ones: masked entries are 0, the training mean, and the extremes of salt-and-pepper are those of the first
training batch, of each channel or column.
Shapes: ``x`` (B, ...) float -> loss; only the probe reads ``y``. Legend: B batch, D features, I numbers of a sample.
Cost: the decoder; the probe adds one forward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import NonNegative, Size
from mltricks.functional.corruption import gaussian, masked, salt_and_pepper, swapped
from mltricks.functional.reconstruction import Reconstruction
from mltricks.functional.self_supervised import collapse, feature_width, features_of, named, with_probe
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

NAME = "denoising_autoencoder"
LAYERS = ("hidden", "output")


@dataclass(frozen=True)
class DenoisingAutoencoder(Technique):
    """Replace the loss with the squared error of the clean inputs.

    Metric ``noise_error`` is the squared error of the noisy inputs: a reconstruction that learned something is below.

    Args:
        noise: ``masking``, ``gaussian``, ``salt_and_pepper`` or ``swap``.
        strength: share of the entries that noise changes, in [0, 1]; of ``gaussian``, the standard deviation.
        decoder_width: width of the decoder's hidden layer; 0 for none.
        probe: let the objective train the last linear layer only.
    """

    noise: Literal["masking", "gaussian", "salt_and_pepper", "swap"]
    strength: NonNegative
    decoder_width: Size
    probe: bool

    kinds = ("image", "vector")
    joined_by = "probe"

    @property
    def needs_whole_batch(self) -> bool:  # type: ignore[override]
        return self.noise == "swap"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise != "gaussian" and self.strength > 1:
            raise ValueError(
                f"technique.{NAME}.strength={self.strength:g} is the share of entries that noise={self.noise} changes. "
                f"Allowed: 0 <= value <= 1; for instance technique.{NAME}.strength=0.25."
            )

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        x = batch["x"]
        width, outputs = feature_width(NAME, model, params, x[:2]), math.prod(x.shape[1:])
        widths = [width, *([self.decoder_width] if self.decoder_width else []), outputs]
        layers = [nn.Linear(before, after) for before, after in pairwise(widths)]
        decoder = nn.ModuleDict(dict(zip(LAYERS[-len(layers) :], layers, strict=True)))
        axes = (0, *range(2, x.ndim))  # of a channel of images, or a column of vectors
        extremes = {"low": x.amin(axes, keepdim=True)[0], "high": x.amax(axes, keepdim=True)[0]}
        return {**params, **named(NAME, decoder)}, extremes if self.noise == "salt_and_pepper" else {}

    def loss(self, inner: LossFn) -> LossFn:
        def denoise(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            noisy = self.corrupt(batch["x"], ctx)
            features = features_of(NAME, params, noisy, ctx)
            loss = F.mse_loss(decode(params, features, batch["x"]), batch["x"])
            found = {"reconstruction_loss": loss, "noise_error": F.mse_loss(noisy, batch["x"])}
            metrics = found | collapse(features)
            return with_probe(NAME, inner, params, batch, ctx, loss, metrics, self.probe)

        return denoise

    def corrupt(self, x: Tensor, ctx: Ctx) -> Tensor:
        """Inputs with noise."""
        if self.noise == "gaussian":
            return gaussian(x, self.strength)
        if self.noise == "salt_and_pepper":
            return salt_and_pepper(x, self.strength, ctx.own["low"], ctx.own["high"])
        return (masked if self.noise == "masking" else swapped)(x, self.strength)

    @torch.no_grad()
    def reconstruct(self, params: Params, x: Tensor, ctx: Ctx) -> Reconstruction:
        noisy = self.corrupt(x, ctx)
        found = decode(params, features_of(NAME, params, noisy, ctx), x)
        errors = F.mse_loss(found, x), F.mse_loss(noisy, x)
        steps = {"input": x, "noisy": noisy, "reconstruction": found}
        return Reconstruction(steps, *errors, "mean squared error", "the noisy inputs themselves")


def decode(params: Params, features_BD: Tensor, like: Tensor) -> Tensor:
    """Features to reconstructions of the shape of ``like``."""
    hidden, output = (f"{NAME}/{layer}." for layer in LAYERS)
    if hidden + "weight" in params:
        features_BD = F.linear(features_BD, params[hidden + "weight"], params[hidden + "bias"]).relu()
    return F.linear(features_BD, params[output + "weight"], params[output + "bias"]).view_as(like)
