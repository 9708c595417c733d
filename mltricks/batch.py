"""The keys of a batch: one table that sources, techniques and objectives share.

A batch is a ``dict[str, Tensor]``. Legend: B batch, C channels, H height, W width, L length, D features, K classes,
U unlabelled samples (``data.unlabeled_ratio`` times B).

============  =====================  =================  ==========================================================
key           shape                  dtype              meaning
============  =====================  =================  ==========================================================
x             (B, C, H, W)           uint8 -> float32   images in raw units until ``normalize``, then standardised
              (B, L)                 int64              tokens
              (B, D)                 float32            features
              dict of these                             multi-part inputs, as the input kind defines them
y             (B,)                   int64              class index
              (B, K)                 float32            class probabilities (after mixup, cutmix, label smoothing), or a
                                                        set of labels, 0 or 1 for each
              (B, L)                 int64              next token at every position
              (B, H, W)              int64              class of every pixel
              (B,) or (B, D)         float32            regression target
index         (B,)                   int64              position of each sample in its split; after mixup and cutmix,
                                                        of the first sample of a pair. Every training batch has it
weight        (B,)                   float32            factor of the loss of each sample, where a sampler draws
                                                        some more often than others and makes up for it
x_unlabeled   (U, C, H, W)           as x               training samples without their labels
y_unlabeled   (U,)                   int64              hidden classes of x_unlabeled, -1 where the data have none:
                                                        for metrics alone, never part of a loss
x_strong      (U, C, H, W)           as x               strongly augmented versions of x_unlabeled, made by fixmatch
x_aug1        (B, C, H, W)           as x               a second version of every sample of x, made by augmix
x_aug2        (B, C, H, W)           as x               a third one
============  =====================  =================  ==========================================================
"""

import torch
from torch import Tensor

Batch = dict[str, Tensor]

INPUTS = ("x", "x_unlabeled", "x_strong", "x_aug1", "x_aug2")


def as_stored(x: Tensor) -> Tensor:
    """Images (N, C, H, W) in channels-last storage, as splits have them: another layout would round differently."""
    return x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
