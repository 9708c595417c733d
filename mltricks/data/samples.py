"""Samples of a user's dataset as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mltricks.data.labels import is_set
from mltricks.inputs.base import as_tensor


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


def read(dataset: Any, what: str) -> tuple[Tensor, Tensor]:
    """Read all samples of a map-style dataset.

    Returns:
        ``x``, (N, H, W, C) uint8 or (N, D) float32, and ``y``, (N,) int64, (N,) or (N, D) float32, or (N, K) bool.

    Raises:
        ValueError: it is empty or no dataset, or a sample is not finite or differs in kind or shape from the first.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ValueError(
            f"data._target_ gives a {type(dataset).__name__} as {what}. Allowed: mltricks DataSplits, something with "
            "load(), a dataset with len and (x, y) for a position, or two or three datasets."
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
    """Convert one y to a class () int64, a value () float32, values (D,) float32 or a set of labels (K,) bool.

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
    if is_set(y, 0):
        return y.bool()
    raise ValueError(
        f"y of {where} is {tuple(y.shape)} {y.dtype}. Allowed: an int (a class), a float or a float vector (values), "
        "or a vector of 2 bools or more (a set of labels)."
    )
