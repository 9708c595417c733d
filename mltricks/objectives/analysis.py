"""Arithmetic of the error analysis of classifiers: calibration, precision and recall, shares of classes.

Shapes: N samples, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_BINS = 15
NUM_POINTS = 100
"""Points of a curve of precision against recall: more cannot be seen."""


def log_shares(counts: Tensor) -> Tensor:
    """The log of the share of every class, (K,), with one sample added to each: finite for absent classes.

    Args:
        counts: (K,) float32.

    >>> log_shares(torch.tensor([0.0, 2.0])).exp()
    tensor([0.2500, 0.7500])
    """
    return ((counts + 1) / (counts.sum() + len(counts))).log()


def calibration(
    confidence: Tensor, right: Tensor, num_bins: int = NUM_BINS
) -> tuple[list[tuple[float, float, int]], float]:
    """Mean confidence, accuracy and size of every bin of confidence, and the expected calibration error.

    The error is the mean over samples of the distance of their bin's accuracy from its mean confidence: Naeini et al.
    2015, "Obtaining well calibrated probabilities using Bayesian binning"; Guo et al. 2017, arXiv:1706.04599, eq. 3.

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) bool.
        num_bins: bins of equal width.

    >>> calibration(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, True, True, False]), 10)[1]
    0.1
    """
    at = (confidence.double() * num_bins).ceil().long().clamp(1, num_bins) - 1
    size = torch.bincount(at, minlength=num_bins).double()
    sums = [torch.zeros(num_bins, dtype=torch.float64).scatter_add(0, at, v.double()) for v in (confidence, right)]
    sure, accuracy = (total / size.clamp_min(1) for total in sums)
    bins = [(float(c), float(a), int(n)) for c, a, n in zip(sure, accuracy, size, strict=True) if n]
    return bins, round(float((size * (sure - accuracy).abs()).sum() / size.sum().clamp_min(1)), 6)


def precision_recall(score: Tensor, positive: Tensor) -> tuple[list[float], list[float], float]:
    """Recalls and precisions over all thresholds, at most ``NUM_POINTS``, and the average precision.

    Samples of equal score are accepted together. The average precision is the sum of precisions, each weighted with
    the gain of recall, without interpolation.

    Args:
        score: (N,) of the class.
        positive: (N,) bool, at least one of them true.

    >>> precision_recall(torch.tensor([0.9, 0.8, 0.4]), torch.tensor([True, False, True]))
    ([0.5, 0.5, 1.0], [1.0, 0.5, 0.6667], 0.8333)
    """
    order = score.argsort(descending=True)
    score, hits = score[order], positive[order].double().cumsum(0)
    last = torch.cat([score[1:] != score[:-1], torch.ones(1, dtype=torch.bool)])
    taken = last.nonzero()[:, 0]
    recall, precision = hits[taken] / hits[-1], hits[taken] / (taken + 1)
    gain = recall.diff(prepend=recall.new_zeros(1))
    some = torch.arange(len(taken))
    if len(taken) > NUM_POINTS:
        some = torch.searchsorted(recall, torch.linspace(0, 1, NUM_POINTS, dtype=recall.dtype)).unique()
    rounded = [[round(v, 4) for v in part[some].tolist()] for part in (recall, precision)]
    return rounded[0], rounded[1], round(float((gain * precision).sum()), 4)
