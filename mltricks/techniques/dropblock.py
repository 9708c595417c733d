"""DropBlock: zero random squares of feature maps.

Source: Ghiasi, Lin, Le, "DropBlock: A regularization method for convolutional networks", 2018, arXiv:1810.12890,
algorithm 1 and equation 1; as ``torchvision.ops.drop_block2d``, with a mask of its own for every channel.
Deviation: where the model's last two stages are is found by the sizes of its feature maps: the two smallest that fit a
block of at least 2x2 pixels. A block is at most as large as the map. Even sizes of blocks are allowed.
A sample depends on the others of its batch: the rest is scaled by the share that the whole batch keeps.
Shapes: (B, C, H, W).
Cost: one random tensor, one pooling and one product per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mltricks.batch import Batch
from mltricks.config.values import Count, Decay
from mltricks.functional.drop import set_rate
from mltricks.functional.feature_maps import Seen, shape_of
from mltricks.functional.layers import Layers, matching_layers
from mltricks.state import leaves
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique

RATE = "dropblock_p"
"""Name of a layer's buffer for the rate: a schedule can set it, and a copy of the model keeps it."""
EPSILON = 1e-6
"""Added to the number of kept elements, as in torchvision."""


@dataclass(frozen=True)
class Dropblock(Technique):
    """In training, zero squares of feature maps that cover about the share p, and scale the rest to keep the mean.

    Args:
        p: probability of zeroing an element, in [0, 1).
        grow: let the rate grow linearly from 0 to p over the run.
        block_size: side of the squares, in elements of the map, >= 1.
        layers: patterns of the names of modules whose outputs are feature maps; ``None`` for the convolutions of the
            last two stages, each behind its norm.
    """

    p: Decay
    grow: bool
    block_size: Count
    layers: Sequence[str] | None

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        for layer in chosen_maps(model, batch["x"], self.layers).values():
            layer.register_buffer(RATE, torch.full((), float(self.p), device=next(leaves(batch)).device))
            layer.register_forward_hook(partial(drop_output, block_size=self.block_size))
        return params, {}

    def loss(self, inner: LossFn) -> LossFn:
        def dropped(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            set_rate(ctx, RATE, self.p * ctx.progress if self.grow else self.p)
            return inner(params, batch, ctx)

        return dropped


def chosen_maps(model: nn.Module, x: Any, patterns: Sequence[str] | None) -> Layers:
    """The modules whose outputs are dropped, by name.

    Raises:
        ValueError: the model has no feature maps, or a pattern matches none.
    """
    calls = [call for call in Seen(model, x).calls if len(shape_of(call[3])) == 4 and min(shape_of(call[3])[2:]) > 1]
    if not calls:
        raise ValueError(
            f"technique=dropblock drops squares of feature maps, and {type(model).__name__} has no module whose output "
            "is one (B, C, H, W) of 2x2 pixels or more. Type technique=dropout, or model=resnet9 for images."
        )
    maps = {name: module for name, module, _, _ in calls if name}
    if patterns is not None:
        return matching_layers(maps, patterns, "technique.dropblock.layers", "Modules with feature maps")
    convolutions = [(name, module, out) for name, module, _, out in calls if isinstance(module, _ConvNd)]
    sizes = sorted({shape_of(out)[2:] for _, _, out in convolutions})[:2]
    normed = {id(given): (name, module) for name, module, given, _ in calls if isinstance(module, _BatchNorm)}
    ends = [normed.get(id(out), (name, module)) for name, module, out in convolutions if shape_of(out)[2:] in sizes]
    return dict(ends)


def drop_output(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor, block_size: int) -> Tensor | None:
    """Forward hook: apply DropBlock to the layer's output in training mode."""
    return drop_block(output, layer.get_buffer(RATE), block_size) if layer.training else None


def drop_block(x: Tensor, p: Tensor, block_size: int) -> Tensor:
    """Draw the corners of the squares that are dropped, and drop them. Shape of ``x``: (B, C, H, W)."""
    height, width = x.shape[2:]
    side = min(block_size, height, width)
    rows, columns = height - side + 1, width - side + 1
    gamma = p * (height * width) / (side * side * rows * columns)
    return cut_blocks(x, (torch.rand(*x.shape[:2], rows, columns, device=x.device) < gamma).float(), side)


def cut_blocks(x: Tensor, corners: Tensor, side: int) -> Tensor:
    """Zero squares of ``x``, and divide the rest by the share of elements that are kept.

    Args:
        x: (B, C, H, W).
        corners: 1 at the upper left corner of a square, (B, C, H - side + 1, W - side + 1).
        side: of a square.

    >>> cut_blocks(torch.ones(1, 1, 2, 3), torch.tensor([[[[0.0, 1.0]]]]), 2)[0, 0]
    tensor([[3., 0., 0.],
            [3., 0., 0.]])
    """
    keep = 1 - F.max_pool2d(F.pad(corners, [side - 1] * 4), side, 1)
    return x * (keep * (keep.numel() / (EPSILON + keep.sum()))).to(x.dtype)
