"""A small vision transformer.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020, arXiv:2010.11929: patches as tokens, a class token,
learned positions, the norm before each branch. ``head_pool=mean`` has no class token (Beyer, Zhai, Kolesnikov 2022,
arXiv:2205.01580), sinusoidal positions are theirs too, with half of the features for each axis.
Deviation: small patches and few blocks for images of 28 to 32 pixels; weights are drawn with deviation 0.02 as in BERT,
biases are zero.
Shapes: (B, C, H, W) -> (B, K). Legend: B batch, N patches, D width.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mltricks.config.values import Count, Decay, check_value
from mltricks.models.layers import BASIC, Layers
from mltricks.models.positions import sinusoidal_2d
from mltricks.models.transformer import Block

SWITCHES = (*BASIC, "norm_eps", "positions", "residual")
STD = 0.02


class ViT(nn.Module):
    """Patches through a linear layer, ``depth`` blocks of attention and perceptron, norm, head.

    Args:
        in_shape: (C, H, W), with H and W multiples of ``patch``.
        num_outputs: K, width of the output.
        patch: side of a patch in pixels.
        width: D, length of a token's vector; a multiple of ``heads``.
        depth: number of blocks.
        heads: attention heads per block.
        dropout: share of activations set to zero in training, in [0, 1).
        head_pool: what the head sees: ``cls``, the class token, or ``mean``, the mean of all patches.
        switches: see ``mltricks.models.layers``; and ``positions``: ``learned``, ``sinusoidal`` or ``none``.

    Attributes:
        token_parts: the modules that return the patches, the tokens with their positions, and the tokens after the last
            block, for techniques that hide patches (``mltricks.functional.patch_tokens``). A vision transformer of your
            own takes part in them with the same attribute.

    Raises:
        ValueError: the input is no image of whole patches, or a setting is out of range.
    """

    token_parts: ClassVar[tuple[str, str, str]] = ("patches", "dropout", "norm")

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        head_pool: str,
        **switches: Any,
    ):
        super().__init__()
        check_settings(in_shape, patch, width, depth, heads, dropout, head_pool)
        layers = Layers.of("vit", SWITCHES, switches)
        layers.only("norm", "layer", "none")
        rows, columns = (side // patch for side in in_shape[1:])
        self.patches = nn.Conv2d(in_shape[0], width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width)) if head_pool == "cls" else None
        self.add_positions(layers.positions, rows, columns, width, heads)
        self.dropout = nn.Dropout(dropout)
        made = [Block(width, heads, dropout, layers, causal=False, bias=True) for _ in range(depth)]
        self.blocks = nn.Sequential(*made)
        self.norm = nn.Sequential(*layers.normalisation(width, maps=False))
        self.head = nn.Linear(width, num_outputs)
        self.reset()

    def add_positions(self, kind: str, rows: int, columns: int, width: int, heads: int) -> None:
        """A parameter or a buffer of shape (N + 1, D), or (N, D) without a class token; nothing for ``none``."""
        extra = int(self.cls is not None)
        if kind == "learned":
            self.position_embedding = nn.Parameter(torch.zeros(rows * columns + extra, width))
        if kind == "sinusoidal":
            if width % 4:
                unit = math.lcm(4, heads)
                fix = max(width // unit, 1) * unit
                raise ValueError(f"model.positions=sinusoidal needs a width that 4 divides. Type model.width={fix}.")
            grid = sinusoidal_2d(rows, columns, width)
            self.register_buffer("positions", torch.cat([torch.zeros(extra, width), grid]))

    def reset(self) -> None:
        """Normal weights, deviation 0.02, and zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=STD)
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if hasattr(self, "position_embedding"):
            nn.init.normal_(self.position_embedding, std=STD)

    def forward(self, x: Tensor) -> Tensor:
        x_BND = self.patches(x).flatten(2).transpose(1, 2)
        if self.cls is not None:
            x_BND = torch.cat([self.cls.expand(len(x), 1, -1), x_BND], 1)
        for places in ("position_embedding", "positions"):
            if hasattr(self, places):
                x_BND = x_BND + getattr(self, places)
        x_BND = self.norm(self.blocks(self.dropout(x_BND)))
        return self.head(x_BND.mean(1) if self.cls is None else x_BND[:, 0])


def check_settings(
    in_shape: tuple[int, ...], patch: int, width: int, depth: int, heads: int, dropout: float, head_pool: str
) -> None:
    """Refuse an input that is no image of whole patches, and settings that are out of range or do not fit together."""
    for name, value in (("patch", patch), ("width", width), ("depth", depth), ("heads", heads)):
        check_value(f"model.{name}", value, Count)
    check_value("model.dropout", dropout, Decay)
    check_value("model.head_pool", head_pool, Literal["cls", "mean"])
    if len(in_shape) != 3:
        raise ValueError(
            f"model=vit reads images; the data have shape {tuple(in_shape)}. Type model=mlp, or model=transformer for "
            "tokens."
        )
    if any(side % patch for side in in_shape[1:]):
        fitting = [n for n in range(1, min(in_shape[1:]) + 1) if not any(side % n for side in in_shape[1:])]
        raise ValueError(
            f"model.patch={patch} does not divide images of {in_shape[1]}x{in_shape[2]} pixels. Type model.patch="
            f"{min(fitting, key=lambda n: abs(n - patch))}."
        )
    if width % heads:
        fix = max(width // heads, 1) * heads
        raise ValueError(f"model.width={width} is no multiple of model.heads={heads}. Type model.width={fix}.")
