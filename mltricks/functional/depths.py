"""The depth of a model's parameters, counted from the top."""

from __future__ import annotations

from torch import Tensor


def depths(params: dict[str, Tensor]) -> dict[str, int]:
    """The number of layers above each parameter, in the model's order of registration.

    A layer is the set of parameters whose names agree up to the first number (``blocks.3``, ``encoder_layer_3``), or
    else up to the parameter's own name (``head``). One-dimensional parameters that would form a layer alone, such as a
    norm's, belong to the layer before. Parameters that techniques add (names with a slash) learn at the full rate.

    >>> import torch
    >>> names = ["stem.weight", "norm.weight", "blocks.0.up.weight", "blocks.0.down.weight", "head.weight", "head.bias"]
    >>> depths({n: torch.zeros(2) if "norm" in n or "bias" in n else torch.zeros(2, 2) for n in names})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'stem.weight': 2, 'norm.weight': 2, 'blocks.0.up.weight': 1, 'blocks.0.down.weight': 1, 'head.weight': 0,
     'head.bias': 0}
    """
    own = {name: p for name, p in params.items() if "/" not in name}
    layers: dict[str, list[str]] = {}
    for name in own:
        layers.setdefault(layer_of(name), []).append(name)
    levels: list[list[str]] = []
    for names in layers.values():
        alone = all(own[name].ndim <= 1 for name in names)
        if alone and levels:
            levels[-1] += names
        else:
            levels.append(list(names))
    above = {name: len(levels) - 1 - level for level, names in enumerate(levels) for name in names}
    return {name: above.get(name, 0) for name in params}


def layer_of(name: str) -> str:
    """The name of the layer that a parameter belongs to.

    >>> layer_of("blocks.3.attention.weight"), layer_of("head.weight")
    ('blocks.3', 'head')
    """
    words = name.split(".")
    number = next((i for i, word in enumerate(words[:-1]) if word.rpartition("_")[2].isdigit()), len(words) - 2)
    return ".".join(words[: number + 1])


def layers(params: dict[str, Tensor]) -> list[str]:
    """The names of the layers of a model's parameters, in the order of registration; a parameter of no layer is one.

    >>> import torch
    >>> layers({name: torch.zeros(2) for name in ["token", "stem.weight", "blocks.0.up.weight", "blocks.0.up.bias"]})
    ['token', 'stem', 'blocks.0']
    """
    return list(dict.fromkeys(layer_of(name) or name for name in params if "/" not in name))
