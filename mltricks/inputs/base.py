"""The base class of input kinds. An input kind describes one sample of ``x``: shape, normalisation, reading, pictures.

A new kind is one file with a frozen dataclass derived from ``Input``, named as the file but in CamelCase. The core
calls its methods and never compares kinds. Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.state import map_state

Raw = Any
"""Raw inputs from the data: a tensor (N, ...), or a dict of such tensors."""
Dtypes = Any
"""The dtype of raw inputs, or a dict of dtypes."""


class Input:
    """The base of every input kind; a kind is a frozen dataclass.

    Attributes:
        shape: of one sample, without the batch axis; a dict of shapes for inputs of several parts.
    """

    shape: Any

    suits: ClassVar[str] = "mlp"
    """A ``model=`` option that accepts this kind, for error messages."""
    also: ClassVar[tuple[str, ...]] = ()
    """Other kinds whose techniques work on this one too: ``("vector",)`` if every entry is a number of its own."""

    def __init_subclass__(cls) -> None:
        home, _, name = cls.__module__.rpartition(".")
        ours = Path(__file__).parent / f"{name}.py"
        if home != __package__ and ours.is_file() and f"class {name.title()}(" in ours.read_text():
            raise ValueError(f"{cls.__module__} is named as an input kind of mltricks, {name}. Rename the file.")

    @property
    def kind(self) -> str:
        """The name of the kind: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.kind} {'x'.join(map(str, self.shape))}"

    def to(self, device: torch.device) -> Input:
        """The same kind with its tensors on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor | Input)}
        return replace(self, **moved) if moved else self  # type: ignore[type-var]

    def reshaped(self, shape: tuple[int, ...]) -> Input:
        """The same kind for samples of another shape."""
        return replace(self, shape=shape)  # type: ignore[type-var]

    def normalize(self, x: Raw) -> Raw:
        """Convert raw inputs to the model's inputs."""
        return x

    def laid_out(self, x: Raw) -> Raw:
        """The same raw inputs in the memory layout of the splits: another one may round differently."""
        return x

    def denormalize(self, x: Raw) -> Raw:
        """Convert the model's inputs back to raw units, for pictures."""
        return x

    def zeros(self, size: int) -> Raw:
        """A batch of zeros in the form of the model's inputs, on the CPU."""
        return torch.zeros(size, *self.shape)

    def noise(self, size: int, device: torch.device) -> Raw:
        """A random batch distributed like normalised inputs."""
        return torch.randn(size, *self.shape, device=device)

    def features(self, x: Raw) -> Tensor | None:
        """Normalised inputs as vectors (N, D) for a linear model; ``None`` if the kind has no such form."""
        return x.flatten(1)

    def spread(self, x: Raw) -> Tensor | None:
        """The standard deviation of normalised inputs, 0-d; ``None`` for kinds that are not numeric."""
        return x.float().std(correction=0)

    def prepare(self, x: Any, dtype: Dtypes) -> Raw:
        """Convert the inputs that a user passes to ``predict`` to raw inputs (N, ...).

        Args:
            x: tensor, array or list; one sample without N counts as N = 1.
            dtype: of the run's own raw inputs.

        Raises:
            ValueError: this kind does not accept the shape or the type.
        """
        return self.checked(as_batch(x, [self.shape], self.shape), dtype)

    def checked(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert inputs to the run's own dtype.

        Raises:
            ValueError: there are no inputs, or their values are not finite, out of this kind's range, or out of the
                dtype's.
        """
        if len(x) == 0:
            raise ValueError("there are no inputs: N is 0.")
        if x.is_complex() or (not dtype.is_floating_point and x.is_floating_point()):
            raise ValueError(f"inputs are {x.dtype}; this model takes raw {dtype} values, as the run's data gave them.")
        found = x.to(dtype)
        if dtype.is_floating_point and not bool(found.isfinite().all()):
            raise ValueError(f"inputs are NaN, infinite, or too large for {dtype}. Clean them first.")
        if found.dtype != x.dtype and not dtype.is_floating_point and not torch.equal(found.long(), x.long()):
            x = x.long()
            raise ValueError(f"inputs go from {x.min()} to {x.max()}, beyond {dtype}, the type of the run's data.")
        return found

    def read(self, path: Path, size: int, dtype: Dtypes) -> Iterator[tuple[list[Any], Raw]]:
        """Read the inputs in a user's file or folder, for ``job=predict``.

        Args:
            path: the file or folder.
            size: samples per chunk.
            dtype: of the run's own raw inputs.

        Yields:
            Names of samples, and the samples as raw inputs.

        Raises:
            ValueError: the path holds no readable inputs.
        """
        if path.suffix != ".npy":
            raise ValueError(f"input={path}: {self.kind} inputs are read from an array. Give a .npy file.")
        x, first = self.prepare(read_array(path), dtype), 0
        for piece in x.split(size):
            yield list(range(first, first + len(piece))), piece
            first += len(piece)

    def texts(self, x: Raw, names: Sequence[str]) -> list[str] | None:
        """Raw samples as texts, or ``None`` if the kind has none; ``names`` are the classes of the data."""
        return None

    def pictures(self, x: Raw) -> Tensor | None:
        """Raw samples as pictures (N, H, W, 3) uint8, or ``None`` if the kind has none."""
        return None


def as_batch(x: Any, allowed: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> Tensor:
    """Match inputs to one of several shapes, with or without N; a shape with fewer axes than ``shape`` gets axes of 1.

    Raises:
        ValueError: the inputs are no numbers, or have none of the shapes.
    """
    try:
        x = as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"inputs are a {type(x).__name__} that holds no numbers: {error}. Give an array.") from error
    for candidate in allowed:
        if tuple(x.shape) == candidate:
            x = x[None]
        if tuple(x.shape[1:]) == candidate:
            return x.reshape(len(x), *[1] * (len(shape) - len(candidate)), *candidate)
    listed = " or ".join(f"(N, {', '.join(map(str, candidate))})" for candidate in allowed)
    raise ValueError(f"inputs have shape {tuple(x.shape)}; this model takes {listed}.")


def as_tensor(x: Any) -> Tensor:
    """A tensor of a tensor, an array in any layout and byte order, or a list of either."""
    import numpy as np

    if isinstance(x, list | tuple) and x and all(isinstance(part, Tensor) for part in x):
        return torch.stack(list(x))
    if isinstance(x, list | tuple):
        x = np.asarray(x)
    if isinstance(x, np.ndarray):
        x = np.ascontiguousarray(x, x.dtype.newbyteorder("="))
    return torch.as_tensor(x)


def read_array(path: Path) -> Any:
    """Read an array from a ``.npy`` file.

    Raises:
        ValueError: the file cannot be read.
    """
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"input={path} cannot be read: {error}") from error


def saved(kind: Input) -> tuple[dict[str, Any], dict[str, Any]]:
    """Serialise an input kind to a JSON node and a nested dict of tensors, the arguments of ``restored``."""
    node: dict[str, Any] = {"_target_": f"{type(kind).__module__}.{type(kind).__qualname__}"}
    tensors: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        value = getattr(kind, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value.cpu().contiguous()
        elif isinstance(value, Input):
            node[field.name], tensors[field.name] = saved(value)
        elif value is not None:
            node[field.name] = value
    return node, tensors


def restored(node: dict[str, Any], tensors: dict[str, Any], allow: Sequence[str]) -> Input:
    """Rebuild the input kind that ``saved`` serialised.

    Args:
        node: its class and settings.
        tensors: its tensors.
        allow: packages besides mltricks whose classes the node may name.

    Raises:
        ValueError: the node names a class that is no input kind, or one of a package that is not allowed.
    """
    from mltricks.config.create import create

    nested = {name: value for name, value in node.items() if isinstance(value, dict) and "_target_" in value}
    parts: dict[str, Any] = {name: restored(value, tensors.get(name, {}), allow) for name, value in nested.items()}
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in node.items() if name not in parts}
    parts |= {name: t for name, t in tensors.items() if isinstance(t, Tensor)}
    made = create(plain, "input", allow, **parts)
    if not isinstance(made, Input):
        raise ValueError(
            f"input._target_={node['_target_']} is no input kind: derive it from mltricks.inputs.base.Input."
        )
    return made


def dtypes_of(x: Raw) -> Any:
    """The names of the dtypes of raw inputs, in the structure of the inputs."""
    return map_state(lambda t: str(t.dtype).removeprefix("torch."), x)
