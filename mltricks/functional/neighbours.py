"""The k nearest neighbours by cosine similarity, and their weighted vote.

Source: Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018,
arXiv:1805.01978, section 3.4: k = 200, a neighbour of similarity s votes with weight exp(s / temperature),
temperature = 0.07; most later code, lightly's included, has 0.1.
Legend: Q queries, N samples of the bank, D features, k neighbours, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST = 2**24
"""Similarities that are held at once: 64 MiB, however large bank and queries are."""


def nearest(queries_QD: Tensor, bank_ND: Tensor, k: int, most: int = MOST) -> tuple[Tensor, Tensor]:
    """The neighbours of every query, the most similar first.

    Args:
        queries_QD, bank_ND: features, float32, on one device; zero vectors have similarity 0 to everything.
        k: number of neighbours, from 1 to N.
        most: similarities that are held at once, which bounds the memory.

    Returns:
        Cosine similarities (Q, k) float32, and positions in the bank (Q, k) int64.

    >>> nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0], [1.0, 1.0]]), 2)[1]
    tensor([[1, 2]])
    """
    bank = F.normalize(bank_ND, dim=1)
    chunks = F.normalize(queries_QD, dim=1).split(max(1, most // len(bank)))
    found = [(chunk @ bank.T).topk(k, dim=1) for chunk in chunks]
    return torch.cat([values for values, _ in found]), torch.cat([at for _, at in found])


def vote_weights(similarity_Qk: Tensor, temperature: float) -> Tensor:
    """exp(s / temperature) of every neighbour, divided by their sum, (Q, k): a softmax, so that nothing overflows."""
    return (similarity_Qk / temperature).softmax(1)


def class_votes(weights_Qk: Tensor, classes_Qk: Tensor, num_classes: int) -> Tensor:
    """The share of the votes that every class receives.

    Args:
        weights_Qk: of the neighbours; each row sums to 1.
        classes_Qk: of the neighbours, int64.
        num_classes: C.

    Returns:
        (Q, C) float32; each row sums to 1.

    >>> class_votes(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[1, 0, 1]]), 3)
    tensor([[0.3000, 0.7000, 0.0000]])
    """
    row = torch.arange(len(classes_Qk), device=classes_Qk.device).unsqueeze(1)
    votes = weights_Qk.new_zeros(len(classes_Qk) * num_classes)  # of one axis, where CUDA can add in a fixed order
    votes.scatter_add_(0, (row * num_classes + classes_Qk).flatten(), weights_Qk.flatten())
    return votes.view(-1, num_classes)
