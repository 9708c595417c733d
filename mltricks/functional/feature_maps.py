"""The outputs of a model's modules, found by one forward pass without gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Seen:
    """What one forward pass in evaluation mode shows.

    Args:
        model: any model; its mode is restored.
        x: a batch of inputs.

    Attributes:
        calls: name, module, input and output of every call of a module, in the order in which the calls ended. An
            output that is a tuple or list, as of a recurrent layer, is its first tensor.
    """

    def __init__(self, model: nn.Module, x: Any):
        self.calls: list[tuple[str, nn.Module, Any, Any]] = []
        training = {module: module.training for module in model.modules()}
        hooks = [module.register_forward_hook(self.note(name)) for name, module in model.named_modules()]
        try:
            with torch.no_grad():
                model.eval()(x)
        finally:
            for hook in hooks:
                hook.remove()
            for module, was in training.items():
                module.training = was

    def check_tensors(self, names: Sequence[str], technique: str) -> None:
        """Refuse modules that the pass did not call, or whose outputs are no tensors.

        Args:
            names: of the modules.
            technique: that needs them, for the message.

        Raises:
            ValueError: names the first of them.
        """
        good = {name for name, _, _, output in self.calls if isinstance(output, Tensor)}
        for name in names:
            if name not in good:
                raise ValueError(
                    f"technique={technique} needs the output of {name}, which the model does not call, or which is no "
                    f"tensor. Name others in technique.{technique}.layers: {', '.join(n for n in good if n)}."
                )

    def note(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.calls.append((name, module, inputs[0] if inputs else None, first_tensor(output)))

        return hook


def first_tensor(output: Any) -> Any:
    """The output of a module, or the first of several."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return output


def shape_of(output: Any) -> tuple[int, ...]:
    """The shape of a tensor; empty for anything else."""
    return tuple(output.shape) if isinstance(output, Tensor) else ()
