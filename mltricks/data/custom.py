"""Custom data: convert the result of a user's class or function to the splits of a run.

That result may be ``DataSplits``, an object with ``load()``, a map-style dataset, a pair of datasets (training, test)
or three (training, test, unlabelled); the targets of unlabelled samples are -1, or classes that are hidden. A map-style
dataset has ``len`` and returns ``(x, y)`` for a position; it is read into memory once.

============  =======================================================================  ==========================
x             uint8 image (H, W), (H, W, C) or (C, H, W); PIL image; float image that  becomes
              holds uint8 values divided by 255, such as from ``ToTensor``             uint8 images
              float vector (D,)                                                        float32, standardised
y             int                                                                      a class, 0 to K - 1
              float, or float vector (D,)                                              a value, unchanged
              vector (K,) of bools, or of ints 0 and 1, with K of 2 or more            a set of labels
============  =======================================================================  ==========================
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mltricks.config.create import create, given_target, locate
from mltricks.data.base import DataOption, Share, image_splits
from mltricks.data.info import Info
from mltricks.data.labels import label_names
from mltricks.data.partition import stratified
from mltricks.data.samples import named, read
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.inputs.image import Image
from mltricks.inputs.vector import Vector

PARTS = ("training", "test", "unlabelled")
RATIO = "unlabeled_ratio"
IDLE: dict[str, Any] = {
    "fraction": 1.0,
    "limit": None,
    "labels_per_class": None,
    RATIO: 0,
    "unlabeled_from": "all",
    "pseudo_labels": None,
    "pseudo_share": None,
    "epoch_size": None,
    "folds": None,
    "fold": None,
    "resize": None,
    "statistics": None,
}
"""The values of common settings that change nothing: those of a configuration saved before a setting came."""


@dataclass(frozen=True)
class Custom(DataOption):
    """The settings that divide custom data.

    Args:
        test_frac: fraction of the samples held out as the test split, in (0, 1), if no test part is given.
    """

    test_frac: Share

    resizes = True


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
        option = create({**{name: idle for name, idle in IDLE.items() if name in named}, **own}, "data", allow)
        return with_classes(option, option.load())
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
        check_idle({name: value for name, value in common.items() if given.unlabeled is None or name != RATIO})
        return given
    common = {**IDLE, **common}
    missing = [field.name for field in fields(Custom) if field.name not in common]
    if missing:
        raise ValueError(
            f"data.{missing[0]} is missing. Choose data=custom, or begin your option with defaults: [custom]."
        )
    option = Custom(**common)
    parts = given if isinstance(given, tuple) else (given,)
    if len(parts) > len(PARTS):
        raise ValueError(
            f"data._target_ gives {len(parts)} parts. Allowed: one dataset, a pair (training, test), or three "
            "(training, test, unlabelled)."
        )
    found = [read(part, f"{name} data") for part, name in zip(parts, PARTS, strict=False)]
    return with_classes(option, divide(option, found, class_names(parts[0])))


def with_classes(option: DataOption, splits: DataSplits) -> DataSplits:
    """The splits, unless a setting counts labels by class and the targets are none.

    Raises:
        ValueError: names the setting.
    """
    for name in ("labels_per_class", "pseudo_labels"):
        value = getattr(option, name)
        if value is not None and splits.info.target != "classes":
            raise ValueError(
                f"data.{name}={value} is for targets that are classes, and these are {splits.info.target}. "
                "Type data.limit=N for fewer labels."
            )
    return splits


def check_idle(common: dict[str, Any]) -> None:
    """Refuse common settings of ``data`` that nothing applies.

    Raises:
        ValueError: one has another value than the one that changes nothing.
    """
    for name, idle in IDLE.items():
        if common.get(name, idle) != idle and name not in ("epoch_size", "statistics"):  # which apply to all data
            raise ValueError(
                f"data.{name}={common[name]} has no effect: data._target_ gives splits that are divided already."
            )


def class_names(dataset: Any) -> tuple[str, ...]:
    """The names in ``dataset.classes``, as in torchvision's datasets, or an empty tuple."""
    return tuple(str(name) for name in getattr(dataset, "classes", ()))


def divide(option: Custom, parts: list[tuple[Tensor, Tensor]], names: tuple[str, ...]) -> DataSplits:
    """Divide the parts that were read into splits."""
    x, y = parts[0]
    is_class = y.ndim == 1 and not y.is_floating_point()
    if is_class:
        names = check_labels([labels for _, labels in parts[:2]], names)
    for what, other in zip(PARTS[1:], parts[1:], strict=False):
        check_alike(what, other, parts[0])
    if len(parts) > 1:
        test = parts[1]
    else:
        count = min(max(1, round(option.test_frac * len(y))), max(len(y) - 1, 1))
        chosen, rest = stratified(y if is_class else None, len(y), count, option.split_seed + 2)
        test, (x, y) = (x[chosen], y[chosen]), (x[rest], y[rest])
    more = parts[2] if len(parts) > 2 else None
    if x.dtype == torch.uint8 and is_class:
        images = None if more is None else MemorySplit(*more, image=True)
        return image_splits(option, x, y, test, names, more=images)
    return _splits(option, x, y, test, names, more)


def check_alike(what: str, part: tuple[Tensor, Tensor], first: tuple[Tensor, Tensor]) -> None:
    """Refuse a part whose samples differ in shape or type from those of the training data."""
    if any(a.shape[1:] != b.shape[1:] or a.dtype != b.dtype for a, b in zip(part, first, strict=True)):
        shown = [f"x {tuple(x.shape[1:])} and y {y.dtype}" for x, y in (part, first)]
        raise ValueError(f"the {what} data, {shown[0]}, are not like the training data, {shown[1]}.")


def _splits(
    option: Custom,
    x: Tensor,
    y: Tensor,
    test: tuple[Tensor, Tensor],
    names: tuple[str, ...],
    more: tuple[Tensor, Tensor] | None = None,
) -> DataSplits:
    """Splits of vectors with any target, or of images with targets that are no classes."""
    target = target_of(y)
    is_class = target == "classes"
    if target == "labels":
        names, y, test = label_names(names, y.shape[1]), y.float(), (test[0], test[1].float())
        more = None if more is None else (more[0], more[1].float())
    train, val, aside = option.divide(y if is_class else None, len(y))
    rest = torch.cat([train, aside])
    image, original = x.dtype == torch.uint8, None
    if option.resize is not None:
        if not image:
            raise ValueError(f"data.resize={option.resize} is for images, and these samples are vectors. Leave it out.")
        original = (x.shape[3], *x.shape[1:3])
        x, test = option.brought(x), (option.brought(test[0]), test[1])
        more = None if more is None else (option.brought(more[0]), more[1])
    num_outputs = len(names) if is_class else (y.shape[1] if y.ndim == 2 else 1)
    sample = x[rest].permute(0, 3, 1, 2) if image else x[rest]
    dims = (0, 2, 3) if image else (0,)
    std, mean = torch.std_mean(sample.double(), dims, correction=0)
    shape = (-1, 1, 1) if image else (-1,)
    mean, std = mean.float().view(shape), torch.where(std > 0, std, 1.0).float().view(shape)
    sizes = tuple(sample.shape[1:])
    kind = Image(sizes, mean, std, original=original) if image else Vector(sizes, mean, std)
    info = Info(kind, target, num_outputs, () if target == "values" else names)
    whole = MemorySplit(x, y, image)
    hidden = option.without_labels(whole, train, aside, None if more is None else MemorySplit(*more, image))
    return DataSplits(whole.select(train), whole.select(val), MemorySplit(*test, image), info, *hidden)


def target_of(y: Tensor) -> str:
    """The kind of targets: (N,) int64 are classes, (N, K) bool sets of labels, floats values."""
    if y.is_floating_point():
        return "values"
    return "classes" if y.ndim == 1 else "labels"


def check_labels(
    parts: list[Tensor], names: tuple[str, ...], kinds: Sequence[str] = ("training", "test")
) -> tuple[str, ...]:
    """Check that the labels are 0 to K - 1, and return the names of the classes.

    Raises:
        ValueError: a label is negative or too large, or a class has no training sample.
    """
    num_classes = len(names) or int(parts[0].max()) + 1
    for labels, what in zip(parts, kinds, strict=False):
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
            "Number the classes 0, 1, 2, ... without gaps"
            f"{', or leave the empty ones out of `classes`' if names else ''}."
        )
    if num_classes < 2:
        raise ValueError(
            "all training samples are of one class; at least 2 are needed. Give float targets for regression."
        )
    return names or tuple(str(c) for c in range(num_classes))
