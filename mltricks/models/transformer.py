"""A small causal transformer for tokens.

Source: Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762; with the norm before each branch, learned
positions and the initialisation of Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
Deviation: dropout after the embedding and at the end of each branch, not inside attention; linear layers of attention
and the head have no bias.
Shapes: (B, L) int64 -> (B, L, K). Legend: B batch, L length, H heads, D width, K vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.config.values import Count, Decay, check_value
from mltricks.functional.foreach import is_unrolled
from mltricks.models.layers import BASIC, Layers
from mltricks.models.positions import add_positions, with_positions

SWITCHES = (*BASIC, "positions", "residual")


class Transformer(nn.Module):
    """Embedding of token and position, ``depth`` blocks of attention and perceptron, norm, head.

    Args:
        in_shape: (L,), the longest sequence.
        num_outputs: K, size of the vocabulary.
        width: D, length of a token's vector; a multiple of ``heads``.
        depth: number of blocks.
        heads: attention heads per block.
        dropout: share of activations set to zero in training, in [0, 1).
        tie_weights: whether the head uses the embedding's matrix.
        switches: see ``mltricks.models.layers``; and ``positions``: ``learned``, ``sinusoidal`` or ``none``.

    Raises:
        ValueError: the input is no sequence, or a setting is out of range.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        tie_weights: bool,
        **switches: Any,
    ):
        super().__init__()
        check_settings(in_shape, width, depth, heads, dropout)
        layers = Layers.of("transformer", SWITCHES, switches)
        layers.only("norm", "layer", "none")
        self.length = in_shape[0]
        self.token_embedding = nn.Embedding(num_outputs, width)
        add_positions(self, layers.positions, in_shape[0], width, heads)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout, layers, causal=True) for _ in range(depth)])
        self.norm = nn.Sequential() if layers.norm == "none" else layers.normalisation(width, maps=False)[0]
        self.head = nn.Linear(width, num_outputs, bias=False)
        if tie_weights:
            self.head.weight = self.token_embedding.weight
        self.reset(depth)

    def reset(self, depth: int) -> None:
        """Normal weights, deviation 0.02; smaller at the end of a branch, so that the sum keeps its size."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                std = 0.02 / (2 * depth) ** 0.5 if name.endswith(".out") else 0.02
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x_BL: Tensor) -> Tensor:
        length = x_BL.shape[1]
        if length > self.length:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the {self.length} that the model was built for."
            )
        x_BLD = self.dropout(with_positions(self, self.token_embedding(x_BL)))
        return self.head(self.norm(self.blocks(x_BLD)))


class Block(nn.Module):
    """x = x + attention(norm(x)); x = x + perceptron(norm(x)); without residuals, the branches alone."""

    def __init__(self, width: int, heads: int, dropout: float, layers: Layers, causal: bool, bias: bool = False):
        super().__init__()
        perceptron = [
            ("hidden", nn.Linear(width, layers.fan * 4 * width)),
            ("act", layers.act(axis=-1)),
            ("out", nn.Linear(4 * width, width)),
            ("dropout", nn.Dropout(dropout)),
        ]
        attention = [("mix", Attention(width, heads, causal, bias)), ("dropout", nn.Dropout(dropout))]
        norm = [[("norm", norm) for norm in layers.normalisation(width, maps=False)] for _ in range(2)]
        self.attention = layers.branch(nn.Sequential(OrderedDict([*norm[0], *attention])))
        self.perceptron = layers.branch(nn.Sequential(OrderedDict([*norm[1], *perceptron])))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.perceptron(self.attention(x_BLD))


class Attention(nn.Module):
    """Self-attention; ``causal``: every position sees itself and the positions before it alone."""

    def __init__(self, width: int, heads: int, causal: bool, bias: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )  # each (B, H, L, D/H)
        # fused attention has no batching rule for its gradient: stacks use the written-out arithmetic
        if is_unrolled():
            mixed = causal_attention(q, k, v) if self.causal else attention(q, k, v)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over this and earlier positions; each argument (B, H, L, D)."""
    position = torch.arange(q.shape[-2], device=q.device)
    later = position > position.unsqueeze(1)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return scores.masked_fill(later, -torch.inf).softmax(-1) @ v


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over all positions; each argument (B, H, L, D)."""
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v


def check_settings(in_shape: tuple[int, ...], width: int, depth: int, heads: int, dropout: float) -> None:
    """Refuse an input that is no sequence, and settings that are out of range or do not fit together."""
    if len(in_shape) != 1:
        raise ValueError(
            f"model=transformer reads sequences of tokens; the data have shape {tuple(in_shape)}. "
            "Type model=convnet for images, model=mlp for others."
        )
    for name, value in (("width", width), ("depth", depth), ("heads", heads)):
        check_value(f"model.{name}", value, Count)
    check_value("model.dropout", dropout, Decay)
    if width % heads:
        nearest = max(width // heads, 1) * heads
        raise ValueError(f"model.width={width} is no multiple of model.heads={heads}. Type model.width={nearest}.")
