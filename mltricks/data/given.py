"""Data that a Python program gave as objects: converted to splits.

============  ===========================================================  ===================================
x             uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), PIL images    images, standardised as in every run
              float (N, C, H, W)                                           images, used as they are
              float (N, ...)                                               used as they are
y             int (N,)                                                     classes, 0 to K - 1
              float (N,) or (N, D)                                         values
              bool (N, K), or int 0 and 1, with K of 2 or more             sets of labels
============  ===========================================================  ===================================

Floats reach the model unchanged because whoever writes the tensors of a model usually normalises them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mltricks.data.base import pixel_statistics, pixel_sums
from mltricks.data.custom import check_labels, class_names
from mltricks.data.info import Info
from mltricks.data.labels import is_set, label_names
from mltricks.data.samples import named
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.array import Array
from mltricks.inputs.base import Input, as_tensor
from mltricks.inputs.image import Image
from mltricks.inputs.image_files import from_images, is_images
from mltricks.inputs.vector import Vector

PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class Given:
    """Stands in ``config.yaml`` for data given to ``mltricks.train(cfg, data=...)``.

    Args:
        what: describes the data.
        drop_last: leave out a last training batch that is smaller than the others.
        epoch_size: training samples an epoch; ``None``: as the sampler gives.
        unlabeled_ratio: unlabelled samples per labelled one in a batch, where the given splits have them.

    Raises:
        ValueError: always, because no configuration can make the objects again.
    """

    what: str
    drop_last: bool = True
    epoch_size: int | None = None
    unlabeled_ratio: int = 0

    def __post_init__(self) -> None:
        raise ValueError(
            f"the data of this run ({self.what}) are objects that a Python program gave, so no command can read them "
            "again. Give them in Python: mltricks.train(cfg, data=(train, val, test), folder=DIR, resume=True). To use "
            "commands, write data=custom data._target_=..."
        )


def node_of(splits: DataSplits, common: dict[str, Any]) -> dict[str, Any]:
    """The configuration node that stands for given data; ``common`` is the node that it replaces."""
    sizes = ", ".join(str(len(part)) for part in (splits.train, splits.val, splits.test))
    node = {"_target_": f"{__name__}.{Given.__name__}", "what": f"{splits.info.input}, {sizes} samples"}
    applied = {"drop_last": True, "epoch_size": None, "unlabeled_ratio": 0}
    return node | {name: common.get(name, idle) for name, idle in applied.items()}


def splits_of(data: Any) -> DataSplits:
    """Convert what a program gave to splits.

    Args:
        data: ``DataSplits``, or (train, val, test), each a pair (x, y) of tensors, arrays or lists, or a dataset with
            ``len`` and ``(x, y)`` for a position, which is read into memory once.

    Raises:
        ValueError: the parts are not three, do not fit each other, or cannot be read.
    """
    if isinstance(data, DataSplits):
        return data
    if not isinstance(data, tuple | list) or len(data) != len(PARTS):
        what = f"{len(data)} parts" if isinstance(data, tuple | list) else f"a {type(data).__name__}"
        raise ValueError(f"data is {what}. Give three: data=(train, val, test), each (x, y) or a dataset.")
    read = [part_of(part, name) for part, name in zip(data, PARTS, strict=True)]
    x, y = read[0]
    for (other_x, other_y), name in zip(read[1:], PARTS[1:], strict=True):
        for what, mine, theirs in (("x", other_x, x), ("y", other_y, y)):
            if mine.shape[1:] != theirs.shape[1:] or mine.dtype != theirs.dtype:
                raise ValueError(
                    f"{what} of the {name} data is {tuple(mine.shape)} {mine.dtype}, and that of the training data "
                    f"{tuple(theirs.shape)} {theirs.dtype}. They must agree in all but the number of samples."
                )
    info = describe(x, y, [labels for _, labels in read], class_names(data[0]))
    image = x.ndim == 4
    read = [(x, y.float() if y.dtype == torch.bool else y) for x, y in read]
    train, val, test = (MemorySplit(stored(x) if image else x, y, image) for x, y in read)
    return DataSplits(train, val, test, info)


def part_of(part: Any, name: str) -> tuple[Tensor, Tensor]:
    """One part as tensors: ``x`` (N, ...), images with the channels first, and ``y`` int64, float32 or bool.

    Raises:
        ValueError: it is empty or cannot be read.
    """
    if isinstance(part, tuple | list) and len(part) == 2:
        x, y = part
    elif hasattr(part, "__len__") and hasattr(part, "__getitem__") and not isinstance(part, Tensor):
        x, y = columns(part, name)
    else:
        loader = " A DataLoader has one, loader.dataset." if hasattr(part, "dataset") else ""
        raise ValueError(
            f"the {name} data are a {type(part).__name__}. Give a pair (x, y), or a dataset with len.{loader}"
        )
    x, y = inputs(x, name), targets(y, name)
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"the {name} data have {len(x)} x and {len(y)} y. Give one y for each x, and at least one.")
    return x, y


def columns(dataset: Any, name: str) -> tuple[list[Any], list[Any]]:
    """All x and all y of a map-style dataset.

    Raises:
        ValueError: a sample is no pair, or the dataset raises an error.
    """
    xs, ys = [], []
    for i in range(len(dataset)):
        with named(dataset, f"reading (x, y) of sample {i} of the {name} data"):
            x, y = dataset[i]
        xs.append(x)
        ys.append(y)
    return xs, ys


def inputs(x: Any, name: str) -> Tensor:
    """``x`` as a tensor; images get the form (N, C, H, W).

    Raises:
        ValueError: it holds no numbers, or numbers that no input kind takes.
    """
    if is_images(x):
        if len({image.size for image in x}) > 1:
            raise ValueError(f"the images of the {name} data differ in size. Resize them to one size first.")
        width, height = x[0].size
        x = from_images(x, (1 if x[0].mode == "L" else 3, height, width))
    x = numbers(x, f"x of the {name} data")
    if x.dtype == torch.uint8 and x.ndim in (3, 4):
        x = x.unsqueeze(-1) if x.ndim == 3 else x
        return x.permute(0, 3, 1, 2) if x.shape[-1] in (1, 3, 4) else x
    if not x.is_floating_point() or x.ndim < 2:
        raise ValueError(
            f"x of the {name} data is {tuple(x.shape)} {x.dtype}. Allowed: floats (N, ...), and uint8 images. For "
            "other inputs, such as tokens, give mltricks.data.splits.DataSplits, which name their input kind."
        )
    return x.float()


def targets(y: Any, name: str) -> Tensor:
    """``y`` as classes (N,) int64, values (N,) or (N, D) float32, or sets of labels (N, K) bool.

    Raises:
        ValueError: it is none of these.
    """
    y = numbers(y, f"y of the {name} data")
    if y.is_floating_point() and y.ndim in (1, 2):
        return y.float()
    if y.ndim == 1 and not y.is_complex() and y.dtype != torch.bool:
        return y.long()
    if is_set(y, 1):
        return y.bool()
    raise ValueError(
        f"y of the {name} data is {tuple(y.shape)} {y.dtype}. Allowed: whole numbers (N,), which are classes, floats "
        f"(N,) or (N, D), which are values, and bools (N, K), which are sets of labels.{as_classes(y)}"
    )


def as_classes(y: Tensor) -> str:
    """How to make classes of targets that are nearly such."""
    squeeze = ".squeeze(1)" if y.ndim == 2 and y.shape[1] == 1 else ""
    long = ".long()" if y.dtype == torch.bool and (squeeze or y.ndim == 1) else ""
    return f" Give y{squeeze}{long}." if squeeze or long else ""


def numbers(values: Any, what: str) -> Tensor:
    try:
        found = as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} is no array of numbers: {error}. Give a tensor or an array.") from error
    if found.is_floating_point() and not bool(found.isfinite().all()):
        raise ValueError(f"{what} holds NaN or infinite values. Clean the data first.")
    return found.detach().cpu()


def describe(x: Tensor, y: Tensor, labels: list[Tensor], names: tuple[str, ...]) -> Info:
    """The description of the data."""
    if y.is_floating_point():
        return Info(kind_of(x), "values", y.shape[1] if y.ndim == 2 else 1)
    if y.ndim == 2:
        return Info(kind_of(x), "labels", y.shape[1], label_names(names, y.shape[1]))
    names = check_labels(labels, names, PARTS)
    return Info(kind_of(x), "classes", len(names), names)


def kind_of(x: Tensor) -> Input:
    """The input kind of ``x``, with the statistics of uint8 images."""
    shape = tuple(x.shape[1:])
    if x.ndim == 2:
        return Vector(shape)
    if x.ndim != 4:
        return Array(shape)
    if x.is_floating_point():
        return Image(shape)
    return Image(shape, *pixel_statistics(pixel_sums(stored(x)), shape[1] * shape[2]))


def stored(x: Tensor) -> Tensor:
    """Images as a ``MemorySplit`` keeps them: (N, H, W, C)."""
    return x.permute(0, 2, 3, 1).contiguous()
