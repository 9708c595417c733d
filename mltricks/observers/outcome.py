"""What is kept of the outputs on the test split, so that errors can be shown without predicting again.

Shapes: B batch, N samples, K classes, L length, D values.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_WORST = 16
Outcome = dict[str, Tensor]


def digest(target: str, objective: Any, y: Tensor, outputs: Tensor) -> Outcome:
    """The few numbers a sample that the report needs; empty where the outputs are none of classes, tokens or values.

    Args:
        target: ``classes``, ``tokens`` or ``values``.
        objective: turns outputs into predictions.
        y: the targets.
        outputs: the model's, (B, K), (B, L, K) or (B, D).
    """
    if target == "classes" and outputs.ndim == 2 and y.ndim == 1 and not y.is_floating_point():
        probabilities = objective.predict(outputs)
        confidence, predicted = probabilities.max(1)
        return {
            "y": y,
            "predicted": predicted,
            "confidence": confidence,
            "p_true": probabilities.gather(1, y[:, None])[:, 0],
        }
    if target == "tokens" and outputs.ndim == 3 and y.ndim == 2:
        loss = F.cross_entropy(outputs.transpose(1, 2), y, reduction="none")
        return {"loss_sum": loss.cpu().double().sum(0)[None], "count": torch.full((1,), len(y))}
    if target == "values" and y.is_floating_point():
        return {"y": y.reshape(len(y), -1), "predicted": objective.predict(outputs).reshape(len(y), -1)}
    return {}


def gather(parts: list[Outcome]) -> Outcome:
    """The digests of all batches as one, on the CPU."""
    if not parts or not all(parts):
        return {}
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def confusion(outcome: Outcome, num_classes: int) -> Tensor:
    """How often each true class (row) is predicted as each class (column), (K, K) int64."""
    cells = outcome["y"] * num_classes + outcome["predicted"]
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def worst(outcome: Outcome) -> Tensor:
    """The positions of the samples whose true class got the least probability, or whose value is farthest off."""
    known = "p_true" in outcome
    badness = -outcome["p_true"] if known else (outcome["predicted"] - outcome["y"]).square().sum(1)
    return badness.argsort(descending=True, stable=True)[:NUM_WORST]


def class_scores(matrix: Tensor) -> list[tuple[int, int, float, float, float]]:
    """For every class its number, its samples, precision, recall and F1, from a confusion matrix."""
    hits, predicted, there = (m.double() for m in (matrix.diagonal(), matrix.sum(0), matrix.sum(1)))
    ratios = [hits / predicted.clamp_min(1), hits / there.clamp_min(1), 2 * hits / (predicted + there).clamp_min(1)]
    return [(k, int(there[k]), *(float(r[k]) for r in ratios)) for k in range(len(matrix))]  # type: ignore[misc]


def as_pixels(x: Tensor) -> Tensor:
    """Images (N, C, H, W) of any range as (N, H, W, 3) uint8; one stretch for all of them."""
    x = x.cpu().float()
    low = x.amin() if x.amin() < 0 else torch.zeros(())
    x = (x - low) / (x.amax() - low).clamp_min(1e-12) * 255
    x = x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return x.round().to(torch.uint8).permute(0, 2, 3, 1)
