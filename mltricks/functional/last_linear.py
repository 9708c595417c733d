"""Find the last linear layer of a model: its input is the model's features."""

from __future__ import annotations

from torch import nn


def last_linear(model: nn.Module, technique: str) -> str:
    """The name of the last linear layer, in the order of registration.

    Args:
        model: any model.
        technique: name of the technique that needs it, for the message.

    Raises:
        ValueError: the model has none.

    >>> last_linear(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), "simclr")
    '2'
    """
    names = linear_layers(model)
    if not names:
        raise ValueError(
            f"technique={technique} takes the input of the last linear layer as the model's features, and "
            f"{type(model).__name__} has no linear layer. Give your "
            "model an nn.Linear at its end, or take a model that has one: for images, model=resnet9."
        )
    return names[-1]


def linear_layers(model: nn.Module) -> list[str]:
    """The names of the linear layers, in the order of registration."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
