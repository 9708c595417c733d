"""Choose layers of a model by patterns of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd

Layers = dict[str, nn.Module]


def weighted_layers(model: nn.Module) -> Layers:
    """The linear layers and convolutions of a model by name, in the order of registration.

    >>> list(weighted_layers(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Linear(4, 2))))
    ['0', '2']
    """
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | _ConvNd)}


def linear_layers(model: nn.Module) -> Layers:
    """The linear layers of a model by name, in the order of registration."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def matching_layers(layers: Layers, patterns: Sequence[str], key: str, what: str) -> Layers:
    """The layers whose names match a pattern, in their own order.

    Args:
        layers: to choose from.
        patterns: of names, as in ``fnmatch``.
        key: the setting that the patterns come from, for the message.
        what: what ``layers`` are, for the message, such as ``Linear layers``.

    Raises:
        ValueError: there is no pattern, or one matches no layer.
    """
    known = ", ".join(layers) or "none"
    if not patterns:
        raise ValueError(f"{key}=none chooses no layer, so it has no effect. Type {key}=NAME; {what.lower()}: {known}.")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(f"{key}={'+'.join(patterns)}: no layer is called {pattern}. {what}: {known}.")
    return {name: m for name, m in layers.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
