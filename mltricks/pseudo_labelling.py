"""Label samples by another run's predictions, and train on the most confident of them: a step of curriculum labelling.

Source: Cascante-Bonilla, Tan, Qi, Ordonez, "Curriculum Labeling: Revisiting Pseudo-Labeling for Semi-Supervised
Learning", 2021, arXiv:2001.06001, algorithm 1, and the authors' code (uvavision/Curriculum-Labeling): a sample is kept
if its largest probability is at or above a percentile of those of all samples without a label; samples of equal
probability are kept together. Each round trains a new model.
The labelled samples, validation and test stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mltricks.data.info import Info
from mltricks.data.source import in_order
from mltricks.data.splits import DataSplits
from mltricks.ensemble import Ensemble, load
from mltricks.predictor import Predictor

FREE = (
    *("root", "download", "num_workers", "unlabeled_ratio", "unlabeled_from", "pseudo_labels", "pseudo_share"),
    *("drop_last", "epoch_size", "statistics"),
)
"""Settings of ``data`` in which the other run may differ: they leave its labelled, validation and test samples."""
MAX_CLASSES = 20
"""Largest number of classes whose samples a message counts one by one."""


def labelled(data: DataSplits, cfg: dict[str, Any], device: torch.device) -> DataSplits:
    """The splits with the most confident of the samples without a label in the training split.

    Args:
        data: the splits, on the device, with the samples to label in ``aside``.
        cfg: the resolved configuration.
        device: where to predict.

    Raises:
        ValueError: the other run is missing, or was trained on other data or other labelled samples.
    """
    node = cfg["data"]
    predictor = load(node["pseudo_labels"], cfg["allow_modules"], str(device))
    check_same(predictor, node, data.info)
    parts = [predictor.outputs_of(batch["x"]) for batch in in_order(data.aside, cfg["eval_batch_size"])]
    score_N, label_N = torch.cat(parts).max(1)
    threshold = percentile(score_N, node["pseudo_share"])
    kept = (score_N.double() >= threshold).nonzero().flatten()
    added = data.aside.relabelled(label_N).select(kept.to(label_N.device))
    note = told(node, label_N, kept, data.aside.labels, threshold, data.info)
    return replace(data, train=data.train.joined(added), aside=None, notes=(*data.notes, note))


def percentile(score_N: Tensor, share: float) -> float:
    """The score that ``share`` of all scores reach: the percentile 100 - 100 share, interpolated as NumPy does.

    >>> percentile(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), 0.25)
    4.0
    """
    return float(np.percentile(score_N.double().cpu().numpy(), 100 - 100 * share))


def check_same(predictor: Predictor, node: dict[str, Any], info: Info) -> None:
    """Refuse a run with other classes, or one that was trained on other labelled samples than this run.

    Raises:
        ValueError: names what differs.
    """
    members = predictor.members.values() if isinstance(predictor, Ensemble) else [predictor]
    for member in members:
        theirs = member.cfg["data"]
        different = [k for k in {**node, **theirs} if k not in FREE and node.get(k) != theirs.get(k)]
        pairs = {f"data.{key}": (theirs.get(key), node.get(key)) for key in different}
        pairs |= {name: (getattr(member.info, name), getattr(info, name)) for name in ("target", "classes")}
        for name, (a, b) in pairs.items():
            if a != b:
                raise ValueError(
                    f"data.pseudo_labels={node['pseudo_labels']}: that run has {name}={a}, and this one {b}, so it may "
                    "have been trained on samples that this run is measured on. Give a run on the same labelled data."
                )


def told(node: dict[str, Any], label_N: Tensor, kept: Tensor, hidden_N: Tensor, threshold: float, info: Info) -> str:
    """What was labelled, for the user."""
    counts = torch.bincount(label_N[kept], minlength=info.num_outputs).tolist()
    each = ", ".join(f"{name} {count:,}" for name, count in zip(info.class_names, counts, strict=True))
    spread = each if len(counts) <= MAX_CLASSES else f"{min(counts):,} to {max(counts):,}"
    hidden = hidden_N[kept]
    known = hidden >= 0
    right = (label_N[kept] == hidden)[known].float().mean() if bool(known.any()) else None
    truth = "" if right is None else f"; {float(right):.2%} of them are right"
    return (
        f"pseudo-labels: {len(kept):,} of {len(label_N):,} samples without a label, by {node['pseudo_labels']} with a "
        f"probability of {threshold:.4g} or more{truth}; of each class: {spread}"
    )
