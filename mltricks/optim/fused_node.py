"""An optimiser's fused kernel as one operation of a traced graph, for a single trial or a stack of trials.

An unfused update makes about ten passes over every tensor; the fused kernel makes one. It takes Python numbers and the
tensors of one trial, so a stack calls it trial by trial. That is faster if the optimiser has many operations and a
trial has many elements. It is for the CPU only: reading the numbers from a GPU would synchronise.

Legend: K trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor

from mltricks.technique import bind, float_fields

_RECORDING: ContextVar[str] = ContextVar("recording", default="")
_RULES: list[tuple[Any, list[str]]] = []
"""The optimisers of traced graphs, each with the names of its tensor floats; operations refer to the index."""


@contextmanager
def fused_nodes(of: Literal["one", "many", ""]) -> Iterator[None]:
    """Within this context, tracing records a fused kernel as one operation.

    Args:
        of: ``one`` trial, or ``many``, for each of which the kernel is called; empty: record the unfused operations.
    """
    token = _RECORDING.set(of)
    try:
        yield
    finally:
        _RECORDING.reset(token)


def fits(optim: Any, params: Sequence[Tensor], grads: Sequence[Tensor]) -> bool:
    """Whether to record the optimiser's kernel as one operation for these tensors."""
    recording, large = _RECORDING.get(), optim.fused_from
    if not recording or large is None or (recording == "many" and sum(p.numel() for p in params) < large * len(params)):
        return False
    if not with_numbers(optim).can_fuse():
        return False
    dtypes = {t.dtype for t in (*params, *grads)}
    return all(t.is_cpu for t in params) and len(dtypes) == 1 and dtypes <= {torch.float32, torch.float64}


def fed_to(optim: Any) -> list[str]:
    """The names of an optimiser's floats that are tensors."""
    return [name for name in float_fields(type(optim)) if isinstance(getattr(optim, name), Tensor)]


def with_numbers(optim: Any) -> Any:
    """The optimiser with numbers in place of tensors."""
    return bind(optim, dict.fromkeys(fed_to(optim), 0.0))


def update(
    rule: Any, grads: list[Tensor], slots: dict[str, list[Tensor]], params: list[Tensor], count: Tensor
) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
    """The same as ``Optimizer.rule``, by the fused kernel."""
    fed = fed_to(rule)
    _RULES.append((with_numbers(rule), fed))
    flat = [t for slot in rule.slots for t in slots[slot]]
    floats = [getattr(rule, name) for name in fed]
    found = iter(OPERATION(len(_RULES) - 1, 0, grads, flat, params, count, floats))
    params = [next(found) for _ in params]
    return params, {slot: [next(found) for _ in params] for slot in rule.slots}


def update_in_place(
    rule: int,
    trials: int,
    grads: list[Tensor],
    slots: list[Tensor],
    params: list[Tensor],
    count: Tensor,
    floats: list[Tensor],
) -> list[Tensor]:
    """Run the kernel in place on parameters and slots.

    Args:
        rule: index of the optimiser in ``_RULES``.
        trials: K, the length of the tensors' first axis; 0 for a single trial without that axis.
        grads, params: of the parameters.
        slots: of the optimiser, slot after slot.
        count: of updates.
        floats: the hyperparameters that are tensors: 0-d, or (K,).

    Returns:
        The parameters, followed by the slots.
    """
    optim, fed = _RULES[rule]
    grads = [_like(g, p) for g, p in zip(grads, params, strict=True)]
    if not trials:
        values = {name: value.item() for name, value in zip(fed, floats, strict=True)}
        bind(optim, values).fused(grads, _by_name(optim, slots, len(params)), params, count)
        return [*params, *slots]
    columns = [value.tolist() if value.ndim else [value.item()] * trials for value in floats]
    rows = [list(zip(*(t.unbind() for t in tensors), strict=True)) for tensors in (grads, slots, params)]
    counts = count.unbind()
    for k in range(trials):
        bound = bind(optim, {name: column[k] for name, column in zip(fed, columns, strict=True)})
        g, s, p = (list(row[k]) for row in rows)
        bound.fused(g, _by_name(optim, s, len(p)), p, counts[k])
    return [*params, *slots]


def _by_name(optim: Any, slots: list[Tensor], num_params: int) -> dict[str, list[Tensor]]:
    return {slot: slots[i * num_params : (i + 1) * num_params] for i, slot in enumerate(optim.slots)}


def _like(grad: Tensor, param: Tensor) -> Tensor:
    """The gradient in its parameter's memory layout: the kernel iterates over both in memory order."""
    return grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)


def _update(
    rule: int,
    trials: int,
    grads: list[Tensor],
    slots: list[Tensor],
    params: list[Tensor],
    count: Tensor,
    floats: list[Tensor],
) -> list[Tensor]:
    """The same as ``update_in_place``, on copies."""
    params = [_copy(p, trials) for p in params]
    held = [torch.empty_like(p).copy_(s) for p, s in zip(params * (len(slots) // len(params)), slots, strict=True)]
    return update_in_place(rule, trials, grads, held, params, count, floats)


def _copy(param: Tensor, trials: int) -> Tensor:
    """A copy; for several trials contiguous, so that each trial is one block."""
    return param.clone(memory_format=torch.contiguous_format if trials else torch.preserve_format)


def _of_all_trials(info: Any, dims: Any, rule: int, trials: int, *tensors: Any) -> tuple[list[Tensor], list[int]]:
    """The ``vmap`` rule: the operation on tensors with a leading axis of trials."""
    assert trials == 0, "there is one axis of trials"
    grads, slots, params, count, floats = tensors

    def first(t: Tensor, dim: int | None) -> Tensor:
        return t.movedim(dim, 0) if dim else t

    def lead(t: Tensor, dim: int | None) -> Tensor:
        return t.expand(info.batch_size, *t.shape) if dim is None else first(t, dim)

    *lists, count_dim, float_dims = dims[2:]
    grads, slots, params = (
        [lead(t, d) for t, d in zip(ts, ds, strict=True)] for ts, ds in zip((grads, slots, params), lists, strict=True)
    )
    floats = [first(t, dim) for t, dim in zip(floats, float_dims, strict=True)]
    found = OPERATION(rule, info.batch_size, grads, slots, params, lead(count, count_dim), floats)
    return found, [0] * len(found)


def in_place_form(target: Any) -> Callable[..., Any] | None:
    """The in-place form of the operation, for graphs that may overwrite parameters and slots."""
    return update_in_place if target is OPERATION else None


_LIBRARY = torch.library.Library("mltricks", "FRAGMENT")
_LIBRARY.define(
    "fused_update(int rule, int trials, Tensor[] grads, Tensor[] slots, Tensor[] params, Tensor count, Tensor[] floats)"
    " -> Tensor[]"
)
_LIBRARY.impl("fused_update", _update, "CompositeExplicitAutograd")
OPERATION = torch.ops.mltricks.fused_update.default
torch.library.register_vmap("mltricks::fused_update", _of_all_trials, lib=_LIBRARY)
