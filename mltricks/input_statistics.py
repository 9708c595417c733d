"""Inputs normalised with the statistics of other data: those on which the weights of the model were trained.

A network whose first layers are frozen, or that is trained on few samples, expects inputs as its first training had
them. ``imagenet`` is for weights of torchvision and timm: mean and standard deviation of the channels red, green and
blue over ImageNet, from 0 to 1, as torchvision documents them for its models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.data.splits import DataSplits
from mltricks.weights import info_of, load_weights

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def with_statistics(data: DataSplits, source: str, allow: Sequence[str]) -> DataSplits:
    """The splits with inputs that are normalised with other statistics.

    Args:
        data: the splits.
        source: ``imagenet``, or the output folder of a run, or its ``best.safetensors``.
        allow: packages whose input kinds the run may name.

    Raises:
        ValueError: there is no such run, or its inputs have other channels or columns.
    """
    kind: Any = data.info.input
    if getattr(kind, "mean", None) is None or getattr(kind, "std", None) is None:
        raise ValueError(f"data.statistics={source}: {kind.kind} inputs have no statistics here. Leave it out.")
    white, shape = getattr(kind, "white", 1), kind.mean.shape
    found = [torch.tensor(v).view(-1, 1, 1) for v in IMAGENET] if source == "imagenet" else of_run(source, allow)
    if any(t.shape != shape for t in found):
        raise ValueError(
            f"data.statistics={source} has {found[0].numel()} means of shape {tuple(found[0].shape)}, and these inputs "
            f"need {tuple(shape)}. Give the run of the weights that this one begins with."
        )
    mean, std = ((t * white).to(kind.mean) for t in found)
    info = replace(data.info, input=replace(kind, mean=mean, std=std))
    note = f"inputs are normalised with the statistics of {'ImageNet' if source == 'imagenet' else source}"
    return replace(data, info=info, notes=(*data.notes, note))


def of_run(folder: str, allow: Sequence[str]) -> list[Tensor]:
    """Mean and standard deviation of the inputs of a run; of images from 0 for black to 1 for white.

    Raises:
        ValueError: there is no run, or its inputs have none.
    """
    tensors, metadata = load_weights(Path(folder))
    kind: Any = info_of(metadata, tensors, list(allow)).input
    if getattr(kind, "mean", None) is None or getattr(kind, "std", None) is None:
        raise ValueError(f"data.statistics={folder}: its {kind.kind} inputs have no statistics. Give another run.")
    return [t / getattr(kind, "white", 1) for t in (kind.mean, kind.std)]
