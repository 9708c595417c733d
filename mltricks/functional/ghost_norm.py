"""Ghost batch norm: batch norm whose statistics are those of a part of the batch.

Source: Hoffer, Hubara, Soudry, "Train longer, generalize better", 2017, arXiv:1705.08741, algorithm 1; split and
running statistics of Page, "How to Train Your ResNet 8: Bag of Tricks", 2019: split s of S holds the samples s, s + S,
s + 2 S, ..., and the running statistics are the mean of those of the splits.
Deviation: the paper weights the splits' running statistics by the powers of its momentum.
Legend: B batch, C channels, S splits.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = tuple[Tensor, Tensor]
"""Running mean and variance, (C,) each."""


def ghost_batch_norm(
    x: Tensor,
    running: Statistics | None,
    weight: Tensor | None,
    bias: Tensor | None,
    splits: int,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Statistics | None]:
    """Normalise every split of a batch with its own statistics; return the result and the new running statistics.

    Args:
        x: (B, C, ...), with B a multiple of ``splits``.
        running: the running statistics; ``None`` for none.
        weight, bias: (C,); ``None`` for 1 and 0.
        splits: S.
        momentum: weight of the new statistics in the running ones.
        eps: added to the variance.
    """
    batch, channels = x.shape[:2]
    rows = x.reshape(batch // splits, splits * channels, *x.shape[2:])
    mean, var = (t.repeat(splits) for t in running) if running else (None, None)
    scale, shift = (None if t is None else t.repeat(splits) for t in (weight, bias))
    y = F.batch_norm(rows, mean, var, scale, shift, True, momentum, eps).reshape(x.shape)
    if mean is None or var is None:
        return y, None
    return y, (mean.view(splits, channels).mean(0), var.view(splits, channels).mean(0))


class GhostBatchNorm(_BatchNorm):
    """Batch norm over ``splits`` parts of the batch in training, and ordinary batch norm in evaluation.

    Shapes: (B, C) or (B, C, ...) -> the same.

    Args:
        num_features: C.
        splits: S, >= 1.
        key: the configuration key of ``splits``, for messages.

    Raises:
        ValueError: in training, a batch that is no multiple of ``splits``, or splits of one number for a channel.
    """

    splits: int
    key: str

    def __init__(self, num_features: int, splits: int, key: str):
        super().__init__(num_features)
        self.splits, self.key = splits, key

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        return self.normalized(input)

    def normalized(self, x: Tensor) -> Tensor:
        """``x`` normalised, and the running statistics updated in training."""
        if not self.training:
            return _BatchNorm.forward(self, x)
        check_splits(self.key, self.splits, len(x))
        if x.numel() == self.splits * x.shape[1] and self.splits > 1:
            raise ValueError(
                f"{self.key}={self.splits} leaves one number for a variance: the splits have one sample each, and the "
                f"maps of a layer one pixel. Type {self.key}={self.splits // 2}, or a larger batch_size."
            )
        assert self.momentum is not None, "refused when the layer was made"
        if self.splits == 1:  # the same, and bit for bit batch norm
            return _BatchNorm.forward(self, x)
        mean, var = self.running_mean, self.running_var
        running = None if mean is None or var is None else (mean, var)
        settings = (self.weight, self.bias, self.splits, self.momentum, self.eps)
        y, running = ghost_batch_norm(x, running, *settings)
        if running is not None:
            self.running_mean, self.running_var = running
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return y


class GhostBatchNormAct(GhostBatchNorm):
    """timm's ``BatchNormAct2d``, which ends in dropout and an activation, with ghost batch norm in it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(self.normalized(input)))


def haunt(name: str, norm: Any, splits: int, key: str) -> None:
    """Make a ghost batch norm of a batch norm in place: parameters, buffers and hooks stay.

    Args:
        name: of the norm, for messages.
        norm: the batch norm.
        splits: parts of the batch.
        key: the configuration key of ``splits``, of a technique.

    Raises:
        ValueError: it is one already, or of an unknown kind, which may do more than normalise.
    """
    kind, technique = type(norm), key.split(".")[1]
    if isinstance(norm, GhostBatchNorm):
        raise ValueError(f"technique={technique} beside {norm.key} splits twice. Leave one out.")
    if norm.momentum is None:
        raise ValueError(f"technique={technique}: {name} has no momentum, and needs one for running statistics.")
    if kind.forward is _BatchNorm.forward:
        norm.__class__ = GhostBatchNorm
    elif kind.__name__ == "BatchNormAct2d" and hasattr(norm, "act") and hasattr(norm, "drop"):
        norm.__class__ = GhostBatchNormAct
    else:
        raise ValueError(
            f"technique={technique} does not know what {name}, a {kind.__name__}, computes besides batch norm. "
            f"Leave {technique} out, or type {key}=1."
        )
    norm.splits, norm.key = splits, key


def check_splits(key: str, splits: int, batch: int) -> None:
    """Refuse a batch that cannot be split evenly.

    Raises:
        ValueError: names the nearest smaller number of splits that divides the batch.
    """
    if batch % splits:
        fitting = max(n for n in range(1, min(splits, batch) + 1) if batch % n == 0)
        raise ValueError(
            f"{key}={splits} does not divide a batch of {batch} samples, a micro-batch with accumulate, into equal "
            f"parts. Type {key}={fitting}, or a batch_size that is a multiple of it, with data.drop_last=true."
        )
