"""Start from the weights of another run, by name: parameters, and buffers such as the statistics of batch norm.

Inputs are normalised with the statistics of the new data, unless ``data.statistics`` names those of the other run. The
weights are those that the other run predicts with; tensors that techniques added there (a projector, an average) are
not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from mltricks.config.values import check_fields
from mltricks.optim.matching import WORDS, matching
from mltricks.weights import BUFFER, PARAM, RAW, load_weights

SHOWN = 4
"""Maximum number of names to print of new or unused tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """Copy the tensors of the same name; the others keep their constructors' values.

    Args:
        checkpoint: output folder of the other run, or its ``best.safetensors``.
        include: patterns (``*``, ``?``, ``[..]``) of the names of tensors to copy, or words for parameters, of which
            ``last_layer`` is the usual one (``mltricks.optim.matching``).
        exclude: patterns of names to leave out of those.

    Raises:
        ValueError: no checkpoint is given; on use: there are no weights, no name matches, or a tensor has another
            shape.
    """

    checkpoint: str | None
    include: Sequence[str]
    exclude: Sequence[str]

    def __post_init__(self) -> None:
        check_fields(self, "init.")
        if self.checkpoint is None:
            raise ValueError("init.checkpoint is missing. Type init.checkpoint=DIR, the output folder of a run.")

    def __call__(self, model: nn.Module) -> str:
        """Fill the module in place; return a message that names new and unused tensors."""
        found = stored(Path(str(self.checkpoint)))
        wanted = self.wanted(model)
        mine = {name: t for name, t in [*model.named_parameters(), *model.named_buffers()] if name in wanted}
        taken = mine.keys() & found.keys()
        self.check(mine, found, taken)
        self.check_patterns(list(dict.fromkeys([*every(model), *found])))
        with torch.no_grad():
            for name in taken:
                mine[name].copy_(found[name])
        new = [name for name in every(model) if name not in taken]
        unused = [name for name in found if name not in taken]
        return f"init: {len(taken)} tensors from {self.checkpoint}; new: {some(new)}; unused: {some(unused)}"

    def wanted(self, model: nn.Module) -> set[str]:
        """The names of the model's tensors to copy from the other run."""
        params: dict[str, Tensor] = dict(model.named_parameters())
        buffers = [name for name, _ in model.named_buffers()]

        def meant(patterns: Sequence[str]) -> set[str]:
            return matching(patterns, params) | {b for b in buffers if any(fnmatchcase(b, p) for p in patterns)}

        return meant(self.include) - meant(self.exclude)

    def check_patterns(self, names: list[str]) -> None:
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            for pattern in patterns:
                if pattern not in WORDS and not any(fnmatchcase(name, pattern) for name in names):
                    raise ValueError(
                        f"init.{key}={list(patterns)}: {pattern} matches no tensor. There are {some(names)}."
                    )

    def check(self, mine: dict[str, Tensor], found: dict[str, Tensor], taken: set[str]) -> None:
        for name in sorted(taken):
            if mine[name].shape != found[name].shape:
                raise ValueError(
                    f"init.checkpoint={self.checkpoint}: {name} has shape {tuple(found[name].shape)} there and "
                    f"{tuple(mine[name].shape)} in this model. Type init.exclude={name} to initialise it, "
                    "init.exclude=last_layer where the classes differ, or use the same model."
                )
        if not taken:
            raise ValueError(
                f"init.checkpoint={self.checkpoint} has no name of this model's tensors: {some(list(found))} there, "
                f"{some(list(mine))} here. Use the same model, or other patterns in init.include."
            )


def every(model: nn.Module) -> list[str]:
    """The names of all parameters and buffers."""
    return [name for name, _ in [*model.named_parameters(), *model.named_buffers()]]


def stored(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the model in a run's ``best.safetensors``, by their names in the model."""
    weights, _ = load_weights(path)
    raw = RAW if any(name.startswith(RAW) for name in weights) else ""
    prefixes = (raw + PARAM, raw + BUFFER)
    own = {n.removeprefix(p): t for p in prefixes for n, t in weights.items() if n.startswith(p)}
    return {name: t for name, t in own.items() if "/" not in name}  # a slash marks tensors that a technique added


def some(names: list[str]) -> str:
    """The first few names, and the number of further ones."""
    rest = len(names) - SHOWN
    return (", ".join(names[:SHOWN]) or "none") + (f" and {rest} more" if rest > 0 else "")
