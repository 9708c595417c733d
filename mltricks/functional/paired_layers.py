"""Layers of a teacher and layers of its student whose outputs are compared: given by name, or chosen by depth.

Shapes: maps (B, C, H, W), sequences (B, L, D) and vectors (B, D).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mltricks.config.values import suggest
from mltricks.functional.feature_maps import Seen, first_tensor
from mltricks.functional_model import FunctionalModel
from mltricks.technique import Params


@dataclass(frozen=True)
class Layer:
    """The output of a module.

    Attributes:
        name: of the module.
        shape: of the output for a batch; of the last call, if there are several.
        rectified: whether no number of it is negative, as behind a ReLU.
        called: how often a forward pass calls the module.
        convolution: whether the module is one.
    """

    name: str
    shape: tuple[int, ...]
    rectified: bool
    called: int
    convolution: bool


Pair = tuple[Layer, Layer]
"""A layer of the teacher and one of the student."""


def layers_of(model: nn.Module, x: Any) -> list[Layer]:
    """The modules of a model whose output is a tensor of two to four axes, in the order in which their calls end.

    Args:
        model: the model; its own output is left out.
        x: a batch of inputs.
    """
    found: dict[str, Layer] = {}
    for name, module, _, output in Seen(model, x).calls:
        if name and isinstance(output, Tensor) and output.is_floating_point() and 2 <= output.ndim <= 4:
            called = found.pop(name).called + 1 if name in found else 1
            found[name] = Layer(
                name, tuple(output.shape), bool((output >= 0).all()), called, isinstance(module, _ConvNd)
            )
    return list(found.values())


def named_layers(layers: Sequence[Layer], patterns: Sequence[str], key: str) -> list[Layer]:
    """The layers that match, pattern by pattern, each in the order of their calls.

    Args:
        layers: of a model.
        patterns: of names, as in ``fnmatch``.
        key: the setting, for messages.

    Raises:
        ValueError: there is no pattern, or one matches no layer; names the nearest.
    """
    if not patterns:
        raise ValueError(f"{key}=none names no layer, so it has no effect. Leave it out, or type {key}=NAME.")
    for pattern in patterns:
        if not any(fnmatchcase(layer.name, pattern) for layer in layers):
            names = [layer.name for layer in layers]
            raise ValueError(f"{key} has {pattern}, which is no layer. {suggest(pattern, names)}")
    return [layer for pattern in patterns for layer in layers if fnmatchcase(layer.name, pattern)]


def given_pairs(
    teacher: Sequence[Layer], student: Sequence[Layer], names: tuple[Sequence[str] | None, Sequence[str] | None],
    technique: str,
) -> list[Pair] | None:  # fmt: skip
    """The pairs that the settings ``teacher_layers`` and ``layers`` of a technique name; ``None`` if both are ``None``.

    Raises:
        ValueError: only one is given, or they name different numbers of layers.
    """
    keys = [f"technique.{technique}.{name}" for name in ("teacher_layers", "layers")]
    if names[0] is None and names[1] is None:
        return None
    if names[0] is None or names[1] is None:
        missing = keys[0] if names[0] is None else keys[1]
        known = ", ".join(layer.name for layer in (teacher if names[0] is None else student))
        raise ValueError(f"{missing} is missing: layers are given as pairs. Type both settings; layers: {known}.")
    first, second = named_layers(teacher, names[0], keys[0]), named_layers(student, names[1], keys[1])
    if len(first) != len(second):
        lists = [", ".join(layer.name for layer in found) for found in (first, second)]
        raise ValueError(
            f"{keys[0]} names {len(first)} layers ({lists[0]}), {keys[1]} {len(second)} ({lists[1]}). Name as many of "
            "the one as of the other."
        )
    return list(zip(first, second, strict=True))


def listed(whose: str, layers: Sequence[Layer]) -> str:
    """A sentence that lists layers with the shapes of a sample."""
    return f"{whose}: {', '.join(f'{layer.name} {layer.shape[1:]}' for layer in layers) or 'none'}."


def usable(layers: Sequence[Layer]) -> list[Layer]:
    """Those that a default may choose: called once a pass, behind a rectifier if the model has any, no map of 1x1."""
    once = [layer for layer in layers if layer.called == 1 and not (len(layer.shape) == 4 and area(layer) == 1)]
    return [layer for layer in once if layer.rectified] or once


def area(layer: Layer) -> int:
    """The number of positions of a map."""
    return layer.shape[2] * layer.shape[3]


def middle_pair(
    teacher: Sequence[Layer], student: Sequence[Layer], fits: Callable[[Layer, Layer], bool]
) -> Pair | None:
    """The pair nearest the middle of both models, first among those whose maps have equal sizes.

    Of maps, only the ends of groups take part: not the insides of residual branches.

    Args:
        teacher, student: their layers.
        fits: whether two layers can be compared.

    Returns:
        ``None`` where no pair fits.
    """
    others, own = ([*group_ends(layers).values()] or usable(layers) for layers in (teacher, student))

    def rank(places: tuple[int, int]) -> tuple[bool, float]:
        t, s = others[places[0]], own[places[1]]
        far = abs(places[0] / max(len(others) - 1, 1) - 0.5) + abs(places[1] / max(len(own) - 1, 1) - 0.5)
        return t.shape[2:] != s.shape[2:], far

    every = [(i, j) for i, t in enumerate(others) for j, s in enumerate(own) if fits(t, s)]
    if not every:
        return None
    i, j = min(every, key=rank)
    return others[i], own[j]


def group_ends(layers: Sequence[Layer]) -> dict[tuple[int, ...], Layer]:
    """Of every size of maps that a convolution gives, the last layer with it, from the first size to the last."""
    sizes = {layer.shape[2:] for layer in layers if layer.convolution}
    return {layer.shape[2:]: layer for layer in usable(layers) if len(layer.shape) == 4 and layer.shape[2:] in sizes}


def captured_outputs(captured: dict[str, tuple[Any, Any]], names: Sequence[str]) -> list[Tensor]:
    """The outputs of modules, in single precision."""
    return [first_tensor(captured[name][1]).float() for name in names]


def reached(model: nn.Module, names: Sequence[str], params: Params, x: Any) -> set[str]:
    """The names of the model's parameters that the outputs of some modules depend on.

    Args:
        model: the model.
        names: of modules.
        params: at least the model's own.
        x: a few inputs.
    """
    function = FunctionalModel(model)
    own = {name: params[name].detach().clone().requires_grad_() for name, _ in function.params}
    buffers = {name: places[0][0][places[0][1]] for name, places in function.buffers}
    training = {module: module.training for module in model.modules()}
    with torch.enable_grad():
        _, _, captured = function(own, buffers, x, False, names)
        total = torch.stack([output.sum() for output in captured_outputs(captured, names)]).sum()
        found = torch.autograd.grad(total, list(own.values()), allow_unused=True)
    for module, was in training.items():
        module.training = was
    return {name for name, gradient in zip(own, found, strict=True) if gradient is not None}
