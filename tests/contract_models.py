"""Small models, in double precision, whose results depend on memory layouts, random draws and ties.

They are for ``model=custom``; ``overrides(name)`` selects one.

In double precision, rounding makes a row of a stack differ from the run alone by 1e-9. A wrong random draw, a wrong
layout or another choice among ties makes a much larger difference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.image import Image

WIDTH = 4


def overrides(name: str) -> list[str]:
    """The overrides for a run of one of ``MODELS`` on images of its own kind."""
    size = [f"+data.channels={3 if name in COLOURED else 1}"]
    data = ["data=custom", f"data._target_={__name__}.spots", f"allow_modules=[{__name__}]", *size]
    return ["model=custom", f"model._target_={__name__}.{name}", *data]


def spots(channels: int) -> DataSplits:
    """Images of a plain background with one bright spot; the class is the corner it is in. Most pixels tie."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(4, (192,), generator=generator)
    x = torch.full((192, 12, 12, channels), 17, dtype=torch.uint8)
    for i, corner in enumerate(y.tolist()):
        row, column = 6 * (corner // 2) + 1, 6 * (corner % 2) + 1
        x[i, row : row + 4, column : column + 4] = torch.randint(
            256, (4, 4, channels), generator=generator, dtype=torch.uint8
        )
    mean, std = torch.full((channels, 1, 1), 30.0), torch.full((channels, 1, 1), 60.0)
    info = Info(Image((channels, 12, 12), mean, std), "classes", 4, tuple("abcd"))
    parts = [MemorySplit(x[i], y[i], image=True) for i in (slice(0, 128), slice(128, 160), slice(160, 192))]
    return DataSplits(*parts, info=info)


class Doubled(nn.Module):
    """Features in double precision, then a linear head."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_shape[0], WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1)
        self.head = nn.Linear(2 * WIDTH, num_outputs)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x.double())).float()

    def features(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, 2 WIDTH)."""
        h = F.relu(self.first(x))
        if self.training:
            h = self.noisy(h)
        return F.relu(self.second(h)).mean((2, 3))

    def noisy(self, h: Tensor) -> Tensor:
        return h


class DropoutAfterConvolution(Doubled):
    """The dropout mask has the memory layout of the convolution's output."""

    def noisy(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.4)


class DropoutInChannelsLast(Doubled):
    """The model itself makes weights and activations channels-last."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(in_shape, num_outputs)
        self.to(memory_format=torch.channels_last)

    def noisy(self, h: Tensor) -> Tensor:
        return F.dropout(h.contiguous(memory_format=torch.channels_last), 0.4)


class DropoutOfChannels(Doubled):
    """One draw per channel."""

    def noisy(self, h: Tensor) -> Tensor:
        return F.dropout2d(h, 0.4)


class DropoutInPlace(Doubled):
    """Dropout that writes into its input."""

    def noisy(self, h: Tensor) -> Tensor:
        return F.dropout(h * 2, 0.4, inplace=True)


class DropoutAsOneKernel(Doubled):
    """``native_dropout``, the operation of CUDA's dropout; half of the calls also use the mask it returns."""

    def noisy(self, h: Tensor) -> Tensor:
        kept, mask = torch.native_dropout(h, 0.3, True)
        return kept + mask


class DropoutOfTransposed(Doubled):
    """Draws for tensors with transposed axes, or with gaps between their elements."""

    def noisy(self, h: Tensor) -> Tensor:
        turned = F.dropout(h.transpose(1, 3), 0.4).transpose(1, 3)
        return turned + F.pad(F.dropout(h[:, :, ::2, 1:-1], 0.4), (1, 1, 0, 6))


class NoiseLikeActivations(Doubled):
    """All random operations that take the shape from another tensor, such as ``rand_like``."""

    def noisy(self, h: Tensor) -> Tensor:
        h = h + 0.1 * torch.randn_like(h) + 0.1 * torch.rand_like(h.permute(2, 0, 1, 3)).permute(1, 2, 0, 3)
        h = h * torch.bernoulli(torch.full_like(h, 0.7))
        return h + 0.01 * torch.randint_like(h, 5) + 0.01 * torch.empty_like(h).exponential_(2.0)


class NoiseInMemoryOrder(Doubled):
    """In-place draws into memory of several layouts, one after another."""

    def noisy(self, h: Tensor) -> Tensor:
        last = torch.empty(h.shape, dtype=h.dtype, device=h.device, memory_format=torch.channels_last).uniform_(0, 0.2)
        mirrored = torch.empty_like(h).transpose(2, 3).normal_(0, 0.1)
        picked = torch.zeros_like(h[:, :, 0]).bernoulli_(0.5)
        return h + last + mirrored + 0.1 * picked.unsqueeze(2) + 0.1 * torch.rand(h.shape[2:], device=h.device)


class NoiseWithValues(Doubled):
    """Draws whose distribution depends on activations."""

    def noisy(self, h: Tensor) -> Tensor:
        kept = torch.bernoulli(torch.sigmoid(3 * h.detach()).round().transpose(2, 3)).transpose(2, 3)
        both = torch.cat([h.detach().round().clamp(0, 1), kept], 1)
        h = h + 0.1 * torch.bernoulli(both)[:, : h.shape[1]]
        return h * kept + 0.1 * torch.normal(h.detach().round(), 0.1)


class DrawsThatNobodyReads(Doubled):
    """An unused draw advances the generator, and so changes the next draw."""

    def noisy(self, h: Tensor) -> Tensor:
        torch.rand(7, device=h.device)
        return F.dropout(h, 0.4)


class ShuffledPatches(Doubled):
    """Random permutations of rows, and of samples."""

    def noisy(self, h: Tensor) -> Tensor:
        rows = torch.randperm(h.shape[2], device=h.device)
        mates = torch.rand(len(h), device=h.device).argsort()
        return h.index_select(2, rows) + 0.3 * h.index_select(0, mates)


class DepthThatIsDropped(Doubled):
    """Stochastic depth, one draw per sample."""

    def noisy(self, h: Tensor) -> Tensor:
        alive = torch.rand(len(h), 1, 1, 1, dtype=h.dtype, device=h.device) < 0.6
        return h + F.relu(h - 0.1) * alive / 0.6


class MaximaOfPlainBackgrounds(Doubled):
    """Overlapping and plain max-pooling in which all values of a window tie, then a maximum over the output."""

    def features(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.first(x)), 3, 2, 1)
        h = F.max_pool2d(self.second(h), 2)
        return h.flatten(2).max(2).values + h.amax((2, 3))


class NormsOfPlainBackgrounds(Doubled):
    """Batch norm before max-pooling, with dropout between them."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(in_shape, num_outputs)
        self.norm = nn.BatchNorm2d(WIDTH, dtype=torch.float64)

    def features(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        return F.max_pool2d(self.second(F.dropout(h, 0.3, self.training)), 3).mean((2, 3))


class ResNet(nn.Module):
    """``model=resnet9`` with max-pooling, in double precision."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        from mltricks.models.resnet9 import ResNet9

        self.net = ResNet9(in_shape, num_outputs, width=2, logit_scale=0.125, pool="max").double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double()).float()


class Attention(Doubled):
    """Attention over pixels, without dropout. Its kernel could draw random numbers, and it assumes one layout."""

    def noisy(self, h: Tensor) -> Tensor:
        pixels = h.flatten(2).transpose(1, 2).unsqueeze(1)
        return F.scaled_dot_product_attention(pixels, pixels, pixels).squeeze(1).transpose(1, 2).reshape_as(h)


class AttentionThatDrops(Doubled):
    """Attention with dropout of its weights."""

    def noisy(self, h: Tensor) -> Tensor:
        pixels = h.flatten(2).transpose(1, 2).unsqueeze(1)
        mixed = F.scaled_dot_product_attention(pixels, pixels, pixels, dropout_p=0.2)
        return mixed.squeeze(1).transpose(1, 2).reshape_as(h)


class RandomLeaks(Doubled):
    """Not one of ``MODELS``: the kernel draws the slope itself, so a stack must be refused."""

    def noisy(self, h: Tensor) -> Tensor:
        return F.rrelu(h - 0.1, training=True)


MODELS: dict[str, Callable[..., nn.Module]] = {
    model.__name__: model
    for model in (
        *(DropoutAfterConvolution, DropoutInChannelsLast, DropoutOfChannels, DropoutInPlace, DropoutAsOneKernel),
        *(DropoutOfTransposed, NoiseLikeActivations, NoiseInMemoryOrder, NoiseWithValues, DrawsThatNobodyReads),
        *(ShuffledPatches, DepthThatIsDropped, MaximaOfPlainBackgrounds, NormsOfPlainBackgrounds, ResNet),
        *(Attention, AttentionThatDrops),
    )
}
COLOURED = {"DropoutInChannelsLast", "DropoutOfTransposed", "NoiseInMemoryOrder", "NormsOfPlainBackgrounds"}
"""Models that get images of three channels; the others get one channel, with which two layouts have equal strides."""
