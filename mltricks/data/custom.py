"""Custom data: convert the result of a user's class or function to the splits of a run.

That result may be ``DataSplits``, an object with ``load()``, a map-style dataset, or a pair of datasets (training,
test). A map-style dataset has ``len`` and returns ``(x, y)`` for a position; it is read into memory once.

============  =======================================================================  ==========================
x             uint8 image (H, W), (H, W, C) or (C, H, W); PIL image; float image that  becomes
              holds uint8 values divided by 255, such as from ``ToTensor``             uint8 images
              float vector (D,)                                                        float32, standardised
y             int                                                                      a class, 0 to K - 1
              float, or float vector (D,)                                              a value, unchanged
============  =======================================================================  ==========================
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mltricks.config.create import create, given_target, locate
from mltricks.data.base import DataOption, Share, image_splits
from mltricks.data.info import Info
from mltricks.data.partition import stratified
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.base import as_tensor
from mltricks.inputs.image import Image
from mltricks.inputs.vector import Vector


@dataclass(frozen=True)
class Custom(DataOption):
    """The settings that divide custom data.

    Args:
        test_frac: fraction of the samples held out as the test split, in (0, 1), if no test part is given.
    """

    test_frac: Share


def load_data(node: dict[str, Any], allow: Sequence[str]) -> DataSplits:
    """Load the data that a configuration node describes.

    A constructor takes its own settings, and those common settings that it names. A data option divides the data
    itself; the common settings divide the result of any other constructor.

    Args:
        node: ``cfg.data``.
        allow: packages besides mltricks and torch that may be named.

    Raises:
        ValueError: a setting is wrong, or a run cannot use the data.
    """
    target = locate(given_target(node, "data"), "data", allow)
    common = {field.name for field in fields(Custom)}
    named = inspect.signature(target).parameters
    own = {name: value for name, value in node.items() if name not in common or name in named}
    if isinstance(target, type) and issubclass(target, DataOption):
        if any(p.kind is p.VAR_KEYWORD for p in named.values()):
            own = node
        check_idle({name: value for name, value in node.items() if name not in own})
        return create(own, "data", allow).load()
    return adapt(create(own, "data", allow), {name: node[name] for name in common & node.keys()})


def adapt(given: Any, common: dict[str, Any]) -> DataSplits:
    """Convert the result of a user's constructor to splits, divided by the common settings.

    Raises:
        ValueError: the result cannot be read, or its content is invalid.
    """
    if hasattr(given, "load"):
        with named(given, "load()"):
            given = given.load()
    if isinstance(given, DataSplits):
        check_idle(common)
        return given
    missing = [field.name for field in fields(Custom) if field.name not in common]
    if missing:
        raise ValueError(
            f"data.{missing[0]} is missing. Choose data=custom, or begin your option with defaults: [custom]."
        )
    option = Custom(**common)
    parts = given if isinstance(given, tuple) else (given,)
    if len(parts) > 2:
        raise ValueError(f"data._target_ gives {len(parts)} parts. Allowed: one dataset, or a pair (training, test).")
    names = ("training data", "test data")
    return divide(option, [read(part, name) for part, name in zip(parts, names, strict=False)], class_names(parts[0]))


@contextmanager
def named(owner: Any, what: str) -> Iterator[None]:
    """Let an error of a user's own code name the class that it comes from.

    Args:
        owner: the object whose code runs.
        what: it does.

    Raises:
        ValueError: instead of any other error.
    """
    cls = type(owner)
    try:
        yield
    except Exception as error:
        if cls.__module__.startswith("mltricks."):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{what} failed in {cls.__module__}.{cls.__qualname__}: {reason}") from error


def check_idle(common: dict[str, Any]) -> None:
    """Refuse common settings of ``data`` that nothing applies.

    Raises:
        ValueError: one has another value than the one that changes nothing.
    """
    for name, idle in (("fraction", 1.0), ("limit", None), ("unlabeled_ratio", 0)):
        if common.get(name, idle) != idle:
            raise ValueError(
                f"data.{name}={common[name]} has no effect: data._target_ gives splits that are divided already."
            )


def class_names(dataset: Any) -> tuple[str, ...]:
    """The names in ``dataset.classes``, as in torchvision's datasets, or an empty tuple."""
    return tuple(str(name) for name in getattr(dataset, "classes", ()))


def read(dataset: Any, what: str) -> tuple[Tensor, Tensor]:
    """Read all samples of a map-style dataset.

    Returns:
        ``x``, (N, H, W, C) uint8 or (N, D) float32, and ``y``, (N,) int64 or (N,) or (N, D) float32.

    Raises:
        ValueError: it is empty or no dataset, or a sample is not finite or differs in kind or shape from the first.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ValueError(
            f"data._target_ gives a {type(dataset).__name__} as {what}. Allowed: mltricks DataSplits, something with "
            "load(), a dataset with len and (x, y) for a position, or a pair of datasets."
        )
    if len(dataset) == 0:
        raise ValueError(f"the {what} are empty.")
    xs, ys = [], []
    for i in range(len(dataset)):
        where = f"sample {i} of the {what}"
        with named(dataset, where):
            sample = dataset[i]
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise ValueError(f"{where} is a {type(sample).__name__}, not a pair (x, y).")
        xs.append(as_input(sample[0], where))
        ys.append(as_target(sample[1], where))
        for part, values in (("x", xs), ("y", ys)):
            if values[-1].shape != values[0].shape or values[-1].dtype != values[0].dtype:
                raise ValueError(
                    f"{part} of {where} is {tuple(values[-1].shape)} {values[-1].dtype}; that of the first is "
                    f"{tuple(values[0].shape)} {values[0].dtype}. All samples must have the same shape and type."
                )
    return torch.stack(xs), torch.stack(ys)


def as_input(x: Any, where: str) -> Tensor:
    """Convert one x to (H, W, C) uint8 or (D,) float32.

    Raises:
        ValueError: x is neither an image nor a vector, or is not finite.
    """
    if hasattr(x, "convert") and hasattr(x, "mode"):  # a PIL image
        x = np.array(x if x.mode in ("L", "RGB") else x.convert("RGB"))
    try:
        x = as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"x of {where} is {str(x)!r:.60}, a {type(x).__name__}. Give an image or a vector of floats."
        ) from error
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise ValueError(f"x of {where} holds NaN or infinite values. Clean the data first.")
    if x.ndim == 1 and x.is_floating_point():
        return x.float()
    if x.ndim == 3 or (x.ndim == 2 and x.dtype == torch.uint8):
        return _channels_last(_bytes(x, where), where)
    raise ValueError(
        f"x of {where} is {tuple(x.shape)} {x.dtype}. Allowed: uint8 images (H, W), (H, W, C) or (C, H, W), "
        "PIL images, and float vectors (D,)."
    )


def _bytes(x: Tensor, where: str) -> Tensor:
    """Convert an image to uint8; floats only if they are multiples of 1/255."""
    if x.dtype == torch.uint8:
        return x
    scaled = x * 255.0
    if (
        x.is_floating_point()
        and float(x.min()) >= 0
        and float(x.max()) <= 1
        and bool(((scaled - scaled.round()).abs() < 1e-2).all())
    ):
        return scaled.round().to(torch.uint8)
    raise ValueError(
        f"x of {where} is a {x.dtype} image from {float(x.min()):g} to {float(x.max()):g}. Images must be uint8, or "
        "uint8 divided by 255: leave out transforms that normalise or augment, because mltricks does both."
    )


def _channels_last(x: Tensor, where: str) -> Tensor:
    """(H, W), (H, W, C) or (C, H, W) to (H, W, C): the smaller of the first and last sides is the channels."""
    if x.ndim == 2:
        return x.unsqueeze(-1)
    if x.shape[0] == x.shape[-1]:
        raise ValueError(
            f"x of {where} is {tuple(x.shape)}: the axis of the channels is ambiguous. Give (H, W, C) with C < H."
        )
    return x if x.shape[-1] < x.shape[0] else x.permute(1, 2, 0)


def as_target(y: Any, where: str) -> Tensor:
    """Convert one y to a class () int64, a value () float32 or values (D,) float32.

    Raises:
        ValueError: y is none of these, or not finite.
    """
    try:
        y = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"y of {where} is {str(y)!r:.60}, a {type(y).__name__}. Give classes as whole numbers, 0 to K - 1, and "
            "their names as `classes` of the dataset."
        ) from error
    if y.is_floating_point() and y.ndim <= 1:
        if not bool(y.isfinite().all()):
            raise ValueError(f"y of {where} is NaN or infinite. Clean the data first.")
        return y.float()
    if y.ndim == 0 and not y.is_complex():
        return y.long()
    raise ValueError(
        f"y of {where} is {tuple(y.shape)} {y.dtype}. Allowed: an int (a class), a float or a float vector (values)."
    )


def divide(option: Custom, parts: list[tuple[Tensor, Tensor]], names: tuple[str, ...]) -> DataSplits:
    """Divide the parts that were read into splits."""
    x, y = parts[0]
    is_class = not y.is_floating_point()
    if is_class:
        names = check_labels([labels for _, labels in parts], names)
    if len(parts) == 2:
        test = parts[1]
        if (
            test[0].shape[1:] != x.shape[1:]
            or test[0].dtype != x.dtype
            or test[1].shape[1:] != y.shape[1:]
            or test[1].dtype != y.dtype
        ):
            raise ValueError(
                f"the test data, x {tuple(test[0].shape[1:])} and y {test[1].dtype}, are not like the training data, "
                f"x {tuple(x.shape[1:])} and y {y.dtype}."
            )
    else:
        count = min(max(1, round(option.test_frac * len(y))), max(len(y) - 1, 1))
        chosen, rest = stratified(y if is_class else None, len(y), count, option.split_seed + 2)
        test, (x, y) = (x[chosen], y[chosen]), (x[rest], y[rest])
    if x.dtype == torch.uint8 and is_class:
        return image_splits(option, x, y, test, names)
    return _splits(option, x, y, test, names)


def _splits(option: Custom, x: Tensor, y: Tensor, test: tuple[Tensor, Tensor], names: tuple[str, ...]) -> DataSplits:
    """Splits of vectors with any target, or of images with regression targets."""
    is_class = not y.is_floating_point()
    train, val, aside = option.divide(y if is_class else None, len(y))
    rest = torch.cat([train, aside])
    image = x.dtype == torch.uint8
    num_outputs = len(names) if is_class else (y.shape[1] if y.ndim == 2 else 1)
    sample = x[rest].permute(0, 3, 1, 2) if image else x[rest]
    dims = (0, 2, 3) if image else (0,)
    std, mean = torch.std_mean(sample.double(), dims, correction=0)
    shape = (-1, 1, 1) if image else (-1,)
    mean, std = mean.float().view(shape), torch.where(std > 0, std, 1.0).float().view(shape)
    kind = (Image if image else Vector)(tuple(sample.shape[1:]), mean, std)
    info = Info(kind, "classes" if is_class else "values", num_outputs, names if is_class else ())
    whole = MemorySplit(x, y, image)
    unlabeled = whole.select(rest) if option.unlabeled_ratio else None
    return DataSplits(whole.select(train), whole.select(val), MemorySplit(*test, image), info, unlabeled)


def check_labels(parts: list[Tensor], names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that the labels are 0 to K - 1, and return the names of the classes.

    Raises:
        ValueError: a label is negative or too large, or a class has no training sample.
    """
    num_classes = len(names) or int(parts[0].max()) + 1
    for labels, what in zip(parts, ("training", "test"), strict=False):
        wrong = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                f"label {int(labels[wrong[0]])} of {what} sample {int(wrong[0])} is outside 0 to {num_classes - 1}, "
                f"the {num_classes} classes. Number the classes 0, 1, 2, ... without gaps."
            )
    empty = (torch.bincount(parts[0], minlength=num_classes) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"class {empty[0]} has no training sample, though there are {num_classes} classes. "
            "Number the classes 0, 1, 2, ... without gaps, or leave the empty ones out of `classes`."
        )
    if num_classes < 2:
        raise ValueError(
            "all training samples are of one class; at least 2 are needed. Give float targets for regression."
        )
    return names or tuple(str(c) for c in range(num_classes))
