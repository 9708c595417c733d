"""Trained weights of a model from a file of this machine, for ``model.pretrained=PATH``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.process.atomic import first_line

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the weights beside other things."""


def read_state(path: str) -> dict[str, Tensor]:
    """The tensors of a file by name, without executing code: of ``torch.save``, or of ``safetensors``.

    Raises:
        ValueError: there is no such file, or it holds no tensors by name.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"model.pretrained={path}: there is no such file. Give a state dict (.pth, .safetensors), or true to "
            "download the weights; the weights of a run go by init=checkpoint."
        )
    state: Any
    try:
        state = _load(path)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"model.pretrained={path} cannot be read: {first_line(error)}. Save model.state_dict()."
        ) from error
    for key in WRAPPERS:
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"model.pretrained={path} holds no tensors by name. Save model.state_dict() into it.")
    found: dict[str, Tensor] = state
    return found


def _load(path: str) -> Any:
    if path.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise RuntimeError(str(error)) from error
    return torch.load(path, map_location="cpu", weights_only=True)


def check_names(path: str, state: dict[str, Tensor], model: nn.Module) -> None:
    """Refuse weights of another model: its tensors must have the same names.

    Raises:
        ValueError: names the first tensors that are missing or too many.
    """
    mine = model.state_dict().keys()
    for what, names in (("lacks", sorted(mine - state.keys())), ("has also", sorted(state.keys() - mine))):
        if names:
            raise ValueError(
                f"model.pretrained={path} is of another model: it {what} {', '.join(names[:3])}. "
                "Give the weights of the same model.name."
            )


def load_below(path: str, state: dict[str, Tensor], model: nn.Module, head: str) -> None:
    """Load all tensors but those of the last layer, whose name is ``head``.

    Raises:
        ValueError: the file is of another model.
    """
    check_names(path, state, model)
    body = {name: tensor for name, tensor in state.items() if not name.startswith(f"{head}.")}
    try:
        model.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise ValueError(f"model.pretrained={path} is of another model: {error}") from error
