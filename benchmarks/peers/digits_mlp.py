"""The training function of the other tuners in ``tuners.py``: an MLP on scikit-learn's digits, in plain torch.

The same data, model, batch, optimiser and number of epochs as ``mltricks model=mlp``, with a validation at the end of
every epoch; nothing is written.
"""

from __future__ import annotations

import functools

import torch
from torch import nn

BATCH_SIZE = 32


@functools.cache
def splits(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Training and validation images as floats, and their classes; split in the same proportions as mltricks."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, classes = load_digits(return_X_y=True)
    images = images.astype("float32") / 16
    rest, _, rest_classes, _ = train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=seed)
    parts = train_test_split(rest, rest_classes, test_size=0.1, stratify=rest_classes, random_state=seed)
    x, x_val, y, y_val = map(torch.as_tensor, parts)
    mean, std = x.mean(), x.std()
    return (x - mean) / std, y, (x_val - mean) / std, y_val


def train(data: tuple[torch.Tensor, ...], lr: float, weight_decay: float, width: int, epochs: int) -> float:
    """Train once; return the best validation accuracy."""
    x, y, x_val, y_val = data
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, foreach=True)
    best = 0.0
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):
            if len(rows) == BATCH_SIZE:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            best = max(best, (model(x_val).argmax(1) == y_val).float().mean().item())
    return best
