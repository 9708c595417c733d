"""The base of techniques that compare two views of an image: the settings of a view, and how it is drawn.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
arXiv:2002.05709, appendix A: crop and resize, mirror, jitter of the colours, grey, blur; solarize of Zbontar et al.,
"Barlow Twins", 2021, arXiv:2103.03230, section 2.2.
Deviation: the crop is resized bilinearly without antialiasing, and a side of it that would be longer than the image is
cut. Each order of the four changes of the jitter is drawn equally often within a batch. Values of pixels are not
rounded to bytes. The blur's kernel has at least 3 pixels.
Shapes: B batch, C channels, H height, W width; images (B, C, H, W) float32, normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import Fraction, NonNegative, Probability, Range
from mltricks.data.info import Info
from mltricks.functional.colors import grey, jitter, solarize, sometimes
from mltricks.functional.views import blur, color_jitter, resized_crop, uniform
from mltricks.technique import Technique

SIGMA = 0.1, 2.0
"""Range of the blur's standard deviation in pixels."""
Turn = Annotated[float, Range(0.0, 0.5)]


@dataclass(frozen=True)
class TwoViews(Technique):
    """The settings of a view. A subclass defines ``loss``, and takes views by ``view`` or ``both``.

    Args:
        min_scale: smallest share of the image in a crop, in (0, 1].
        flip: mirror half of the views left to right.
        brightness, contrast, saturation: strengths s of the jitter, >= 0, for factors uniform in
            [max(0, 1 - s), 1 + s).
        hue: largest turn of the hue, as a share of the circle of colours, in [0, 0.5].
        p_jitter: probability that a view is jittered, in [0, 1]; ``None`` leaves the jitter out.
        p_grey: probability that a view becomes grey, in [0, 1]; ``None`` leaves that out.
        p_blur: probability that a view is blurred, in [0, 1]; ``None`` leaves the blur out.
        color: ``None``, or the strength, >= 0, of a change of brightness, contrast and saturation of normalised images
            in place of jitter and grey: for images that are no bytes, or have neither 1 nor 3 channels.

    Attributes:
        pixels: for every channel, the factor and the shift from normalised values to pixels from 0 to 1. ``check``
            sets it.
    """

    min_scale: Fraction
    flip: bool
    brightness: NonNegative
    contrast: NonNegative
    saturation: NonNegative
    hue: Turn
    p_jitter: Probability | None
    p_grey: Probability | None
    p_blur: Probability | None
    color: NonNegative | None

    kinds = ("image",)
    needs_whole_batch = True
    joined_by = "probe"
    pixels: ClassVar[tuple[tuple[float, float], ...]] = ()

    @property
    def changes_colors(self) -> bool:
        """Whether a view is changed in ways that need pixels."""
        return self.color is None and not (self.p_jitter is None and self.p_grey is None)

    def check(self, info: Info) -> None:
        if not self.changes_colors:
            return
        name, channels = type(self).__module__.rpartition(".")[2], info.in_shape[0]
        mean, std = getattr(info.input, "mean", None), getattr(info.input, "std", None)
        if mean is None or std is None or channels not in (1, 3):
            kind = f"have {channels} channels" if mean is not None else "are floats"
            raise ValueError(
                f"technique={name} changes the colours of grey images (1 channel) or RGB images (3) of 8 bits, and "
                f"these {kind}. Type technique.{name}.color=0.4 to change images of any kind."
            )
        white = getattr(info.input, "white", 255)
        both = zip((std / white).flatten().tolist(), (mean / white).flatten().tolist(), strict=True)
        object.__setattr__(self, "pixels", tuple(both))

    def both(self, x: Tensor) -> Tensor:
        """Two views of every image, drawn alike: (2B, C, H, W), where rows i and i + B are of the same image."""
        return self.view(torch.cat([x, x]), self.p_blur)

    def view(self, x: Tensor, p_blur: float | Tensor | None, p_solarize: float | Tensor | None = None) -> Tensor:
        """One view of every image.

        Args:
            x: normalised images.
            p_blur, p_solarize: probabilities; ``None`` for never.
        """
        return self.changed(resized_crop(x, self.min_scale, self.flip), p_blur, p_solarize)

    def changed(self, x: Tensor, p_blur: float | Tensor | None, p_solarize: float | Tensor | None = None) -> Tensor:
        """A view after its crop; the arguments are those of ``view``."""
        if self.color is not None:
            return blurred(color_jitter(x, self.color), p_blur)
        return self.on_pixels(x, p_blur, p_solarize) if self.changes_colors else blurred(x, p_blur)

    def on_pixels(self, x: Tensor, p_blur: float | Tensor | None, p_solarize: float | Tensor | None) -> Tensor:
        """The changes of colours and values, on pixels from 0 to 1."""
        assert self.pixels, "check(info) sets the range of pixels"
        x = affine(x, self.pixels).clamp(0, 1)
        if self.p_jitter is not None:
            x = sometimes(self.p_jitter, jitter(x, {name: getattr(self, name) for name in STRENGTHS}), x)
        if self.p_grey is not None and x.shape[1] > 1:
            x = sometimes(self.p_grey, grey(x).expand_as(x), x)
        x = blurred(x, p_blur)
        if p_solarize is not None:
            x = sometimes(p_solarize, solarize(x), x)
        return affine(x, [(1 / scale, -shift / scale) for scale, shift in self.pixels])


STRENGTHS = ("brightness", "contrast", "saturation", "hue")


def blurred(x: Tensor, p: float | Tensor | None) -> Tensor:
    """Blur every image with probability ``p``; ``None`` for never."""
    return x if p is None else sometimes(p, blur(x, uniform(x, *SIGMA)), x)


def affine(x: Tensor, channels: tuple[tuple[float, float], ...] | list[tuple[float, float]]) -> Tensor:
    """factor x + shift, with the pair of every channel. Plain numbers, since a step holds no tensor of its own."""
    return torch.stack([x[:, c] * factor + shift for c, (factor, shift) in enumerate(channels)], 1)
