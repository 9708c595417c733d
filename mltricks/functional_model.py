"""A module as a function of its parameters and buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.state import map_state

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast computes in, by the values of ``precision.dtype``; ``None`` for no autocast."""


class FunctionalModel:
    """Call a module with the given tensors in place of its parameters and buffers.

    This is ``torch.func.functional_call`` with the lookup of modules done once instead of at every call. Autocast is
    applied here: tracing resolves it into casts, so that it also works under ``vmap``.

    Args:
        module: the model; tied parameters count as one, under their first name.
        dtype: of autocast, or ``None`` for full precision. Outputs are float32 either way.
        device_type: the device of the model, for autocast.
        still: submodules that always run in evaluation mode.
    """

    def __init__(
        self,
        module: nn.Module,
        dtype: torch.dtype | None = None,
        device_type: str = "cpu",
        still: Sequence[nn.Module] = (),
    ):
        self.module = module
        self.dtype = dtype
        self.device_type = device_type
        self.still = still
        self.params = _places(module, "_parameters")
        self.buffers = _places(module, "_buffers")

    def precision(self) -> AbstractContextManager[Any]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device_type, self.dtype, cache_enabled=False)

    def __call__(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, train: bool, capture: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        """The output, the buffers after the call, and the captured activations in autocast's dtype.

        The given tensors are never overwritten.
        """
        if self.module.training != train:
            self.module.train(train)
        for part in self.still:
            part.training = False
        buffers = {name: buffers[name].clone() if train else buffers[name] for name, _ in self.buffers}
        with _placed(self.params, params), _placed(self.buffers, buffers), _captured(self.module, capture) as captured:
            if self.dtype is None:
                output = self.module(x)
            else:
                with self.precision():
                    output = map_state(Tensor.float, self.module(x))
            buffers = {name: places[0][0][places[0][1]] for name, places in self.buffers}
        return output, buffers, captured


Places = list[tuple[str, list[tuple[dict[str, Any], str]]]]


def _places(module: nn.Module, kind: str) -> Places:
    """For every distinct tensor, its first name and all (dict, key) pairs that hold it."""
    found: dict[int, tuple[str, list[tuple[dict[str, Any], str]]]] = {}
    for prefix, child in module.named_modules():
        held = getattr(child, kind)
        for key, tensor in held.items():
            if tensor is not None:
                name = f"{prefix}.{key}" if prefix else key
                found.setdefault(id(tensor), (name, []))[1].append((held, key))
    return list(found.values())


@contextmanager
def _placed(places: Places, tensors: dict[str, Tensor]) -> Iterator[None]:
    kept = [slots[0][0][slots[0][1]] for _, slots in places]
    try:
        for name, slots in places:
            for held, key in slots:
                held[key] = tensors[name]
        yield
    finally:
        for (_, slots), tensor in zip(places, kept, strict=True):
            for held, key in slots:
                held[key] = tensor


@contextmanager
def _captured(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    captured: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, inputs, output: captured.__setitem__(name, (inputs[0], output))

    hooks = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()
