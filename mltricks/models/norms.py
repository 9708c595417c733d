"""Norms by name.

Sources: ``batch`` Ioffe and Szegedy 2015, arXiv:1502.03167; ``layer`` Ba et al. 2016, arXiv:1607.06450; ``group`` Wu
and He 2018, arXiv:1803.08494; ``ghost_batch``: ``mltricks.functional.ghost_norm``. A frozen scale, with only
the shift trained: Page, "How to Train Your ResNet 8", 2019.
On feature maps, ``layer`` takes the statistics of all channels and pixels of a sample (Wu and He, figure 2).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from mltricks.functional.ghost_norm import GhostBatchNorm

Norm = Literal["none", "batch", "layer", "group", "ghost_batch"]


def new_norm(kind: Norm, channels: int, maps: bool, groups: int, splits: int) -> Any:
    """A new norm.

    Args:
        kind: any but ``none``.
        channels: of its input.
        maps: whether the input is a feature map (B, C, H, W), or a vector with the channels last.
        groups: of ``group``.
        splits: of ``ghost_batch``.

    Raises:
        ValueError: groups that do not divide the channels, or that hold one number each.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels) if maps else nn.BatchNorm1d(channels)
    if kind == "ghost_batch":
        return GhostBatchNorm(channels, splits, "model.ghost_splits")
    if kind == "layer":
        return nn.GroupNorm(1, channels) if maps else nn.LayerNorm(channels)
    if channels % groups or (channels == groups and not maps):
        fitting = max((n for n in range(1, min(groups, channels)) if channels % n == 0), default=1)
        raise ValueError(
            f"model.norm_groups={groups} does not divide {channels} channels into groups"
            f"{'' if channels % groups else ' of several'}. Type model.norm_groups={fitting}, or another model.width."
        )
    return nn.GroupNorm(groups, channels)
