"""Linear centred kernel alignment (CKA): how alike two layers represent the same samples.

Source: Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", 2019,
arXiv:1905.00414, sections 2 and 3.
Shapes: features (N, P) of N samples; their number P may differ between layers.
"""

from __future__ import annotations

from torch import Tensor


def centred_gram(features: Tensor) -> Tensor:
    """The products of all pairs of samples, (N, N), after the mean over the samples is subtracted."""
    centred = features - features.mean(0)
    return centred @ centred.T


def aligned(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of two centred Gram matrices, 0-d in [0, 1]; 0 where a layer gives the same for all samples."""
    lengths = a.norm() * b.norm()
    return (a * b).sum() / lengths if lengths > 0 else lengths


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """||Y^T X||^2 / (||X^T X|| ||Y^T Y||) of centred features, 0-d in [0, 1], as the cosine of their Gram matrices.

    It is 1 for features that differ by a rotation and a factor, and needs no common number of features.

    Args:
        x, y: features (N, P) and (N, Q) of the same samples.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(float(linear_cka(x, -3 * x.flip(1))), 4)
    1.0
    """
    return aligned(centred_gram(x), centred_gram(y))
