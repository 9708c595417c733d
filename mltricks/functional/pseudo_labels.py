"""Predictions as targets: the loss on them, the ramps of its weight, and metrics that watch them.

Legend: U unlabelled samples, K classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.batch import Batch


def consistency(target_UK: Tensor, trained_UK: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cross-entropy against the classes of confident predictions.

    Args:
        target_UK: logits whose largest entries are the classes; no gradient flows into them.
        trained_UK: logits that are trained, of the same samples.
        threshold: least probability of a confident prediction.

    Returns:
        The sum over confident samples divided by the number of all samples; the share of confident samples; and which
        these are, (U,) float32 of 0 and 1.
    """
    confidence, label = target_UK.detach().softmax(1).max(1)
    counts_U = (confidence >= threshold).float()
    return (F.cross_entropy(trained_UK, label, reduction="none") * counts_U).mean(), counts_U.mean(), counts_U


def linear_ramp(progress: float | Tensor, start: float | Tensor, end: float | Tensor) -> Tensor:
    """0 up to ``start``, 1 from ``end`` on, and linear between them, 0-d.

    >>> [float(linear_ramp(p, 0.2, 0.6)) for p in (0.1, 0.4, 0.9)]
    [0.0, 0.5, 1.0]
    """
    tiny = torch.finfo(torch.float32).tiny
    length = torch.as_tensor(end - start, dtype=torch.float32).clamp_min(tiny)
    return (torch.as_tensor(progress - start, dtype=torch.float32) / length).clamp(0, 1)


def exponential_ramp(progress: float | Tensor, end: float | Tensor) -> Tensor:
    """exp(-5 (1 - progress / end)^2) up to ``end``, 1 from there on, 0-d.

    >>> [round(float(exponential_ramp(p, 0.5)), 4) for p in (0.0, 0.25, 0.75)]
    [0.0067, 0.2865, 1.0]
    """
    missing = 1 - linear_ramp(progress, 0.0, end)
    return (-5 * missing * missing).exp()


@torch.no_grad()
def watched(target_UK: Tensor, batch: Batch, counts_U: Tensor | None = None) -> dict[str, Tensor]:
    """Metrics of predictions that become targets, 0-d.

    ``unlabeled_kl``: KL divergence of the mean prediction from equal shares, in nats: from 0 to log K, where every
    sample is predicted to be of one class. Where the hidden classes are known, also ``unlabeled_accuracy``, the share
    of samples whose predicted class is right, and ``wrong_rate``, the share that is trained on with a wrong class.

    Args:
        target_UK: logits.
        batch: its ``y_unlabeled`` (U,) int64, if there, holds the hidden classes, -1 for unknown ones.
        counts_U: 1 for the samples that are trained on; ``None`` for all, without ``wrong_rate``.
    """
    mean_K = target_UK.detach().float().softmax(1).mean(0)
    metrics = {"unlabeled_kl": math.log(len(mean_K)) - torch.special.entr(mean_K).sum()}
    hidden_U = batch.get("y_unlabeled")
    if hidden_U is None:
        return metrics
    known_U = (hidden_U >= 0).float()
    right_U = (target_UK.argmax(1) == hidden_U).float()
    total = known_U.sum().clamp_min(1)
    metrics["unlabeled_accuracy"] = (right_U * known_U).sum() / total
    if counts_U is not None:
        metrics["wrong_rate"] = ((1 - right_U) * known_U * counts_U).sum() / total
    return metrics
