"""Any transforms of ``torchvision.transforms.v2`` by name.

Source: the classes' own documentation. They run between the data and the step, on the images in raw units, because
their draws are Python numbers, which no engine can trace. The generators are seeded from seed and step, so a run
resumes exactly, and a trial of a stack gets the draws that it would get alone.
Deviation: transforms that change the size or the type of images, or need the labels, are refused.
Shapes: ``x`` and ``x_unlabeled`` (B, C, H, W) keep shape and type.
Cost: on the CPU about 0.1 ms for every sample and transform; with ``per_sample=false`` for every batch and transform.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.config.values import suggest
from mltricks.technique import Technique

if TYPE_CHECKING:
    from mltricks.data.info import Info

KEY = "technique.torchvision.transforms"
UNFIT = {
    "MixUp": "it blends the labels too; type technique=mixup",
    "CutMix": "it blends the labels too; type technique=cutmix",
    "Lambda": "it takes a function, which a configuration cannot hold",
    "Transform": "it is the base class",
}


@dataclass(frozen=True)
class Torchvision(Technique):
    """Transform every batch by ``torchvision.transforms.v2`` classes, one after the other.

    Args:
        transforms: for each its name alone, or a dict of ``name`` and arguments; at least one.
        per_sample: whether every sample gets its own draws.

    Raises:
        ValueError: an unknown class, or arguments that it refuses.
    """

    transforms: Sequence[str | dict[str, Any]]
    per_sample: bool

    kinds = ("image",)
    needs_one_target = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.transforms:
            raise ValueError(f"{KEY}=[] changes nothing. Name a transform, or leave torchvision out.")
        object.__setattr__(self, "_made", [made(node, f"{KEY}[{i}]") for i, node in enumerate(self.transforms)])

    def check(self, info: Info) -> None:
        floats = getattr(info.input, "mean", None) is None  # such images are not normalised, so they are no bytes
        shape = (2, *info.in_shape)
        with torch.random.fork_rng(devices=[]):
            x = torch.rand(shape) if floats else torch.randint(256, shape, dtype=torch.uint8)
            for transform in self._made:  # type: ignore[attr-defined]
                check_output(type(transform).__name__, transform, x)

    def on_host(self, batch: Batch) -> Batch:
        return {**batch, **{key: self._transformed(batch[key]) for key in INPUTS if key in batch}}

    def _transformed(self, x: Tensor) -> Tensor:
        for transform in self._made:  # type: ignore[attr-defined]
            x = torch.stack([transform(one) for one in x]) if self.per_sample else transform(x)
        pixels = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)  # the layout of the splits
        return pixels.permute(0, 3, 1, 2)


def check_output(name: str, transform: Any, x: Tensor) -> None:
    """Refuse a transform that changes the shape or the type of images.

    Raises:
        ValueError: names the transform and what it makes of the images.
    """
    try:
        found = transform(x)
    except Exception as error:  # a transform may raise anything
        raise ValueError(
            f"{KEY}: {name} cannot transform images {tuple(x.shape[1:])} {x.dtype} ({type(error).__name__}: {error}). "
            "technique=torchvision transforms images alone."
        ) from error
    if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
        what = f"{tuple(found.shape[1:])} {found.dtype}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(
            f"{KEY}: {name} makes {what} of images {tuple(x.shape[1:])} {x.dtype}. technique=torchvision keeps size "
            "and type; mltricks normalises afterwards. Choose other arguments, or leave it out."
        )


def made(node: Any, key: str) -> Any:
    """The transform that a node describes; lists of nodes in its arguments become lists of transforms.

    Raises:
        ValueError: it has no name, an unknown one, or arguments that the class refuses.
    """
    node = {"name": node} if isinstance(node, str) else node
    if not isinstance(node, dict) or not isinstance(node.get("name"), str):
        raise ValueError(f"{key}={node} names no transform. Write {{name: RandomRotation, degrees: 10}}.")
    cls, known = find(node["name"], key), {}
    for name, value in node.items():
        if name != "name":
            nested = isinstance(value, list | tuple) and value and all(isinstance(v, dict) for v in value)
            known[name] = (
                [made(v, f"{key}.{name}[{i}]") for i, v in enumerate(value)] if nested else argument(name, value)
            )
    parameters = inspect.signature(cls).parameters
    for name in known:
        if name not in parameters:
            raise ValueError(f"{key}: {node['name']} takes no {name}. {suggest(name, parameters)}")
    try:
        return cls(**known)
    except Exception as error:  # a class may check its arguments in any way
        raise ValueError(f"{key}: {node['name']} refuses {known}: {error}") from error


def argument(name: str, value: Any) -> Any:
    """An argument as a class takes it: the word of an interpolation as torchvision's own constant."""
    from torchvision.transforms import InterpolationMode

    if name != "interpolation":
        return value
    words = {mode.value: mode for mode in InterpolationMode}
    if value not in words:
        raise ValueError(f"{KEY}: interpolation={value} is unknown. {suggest(str(value), words)}")
    return words[value]


def find(name: str, key: str) -> Any:
    """The class of ``torchvision.transforms.v2`` with this name.

    Raises:
        ValueError: the class does not exist, or cannot be used.
    """
    from torchvision.transforms import v2  # imported here, because it takes a second

    known = {n: c for n, c in vars(v2).items() if inspect.isclass(c) and issubclass(c, v2.Transform)}
    if name in UNFIT:
        raise ValueError(f"{key}: {name} cannot be used: {UNFIT[name]}.")
    if name not in known:
        raise ValueError(
            f"{key}: {name} is no transform of torchvision.transforms.v2. {suggest(name, known.keys() - UNFIT.keys())}"
        )
    return known[name]
