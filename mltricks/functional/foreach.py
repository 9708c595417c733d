"""Arithmetic on lists of tensors: one kernel for the whole list, or one operation per tensor for ``vmap``.

``torch._foreach_*`` has no batching rule, so the engine that stacks trials traces inside ``unrolled()``.
Scalars may be numbers or 0-d tensors. A function whose name ends with ``_`` may write its result into the tensors of
its last list, and does so inside ``overwriting()``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

Scalar = float | Tensor
_UNROLLED: ContextVar[bool] = ContextVar("unrolled", default=False)
_OVERWRITING: ContextVar[bool] = ContextVar("overwriting", default=False)


@contextmanager
def unrolled() -> Iterator[None]:
    """Inside this block, list arithmetic is done tensor by tensor, which ``vmap`` can batch."""
    token = _UNROLLED.set(True)
    try:
        yield
    finally:
        _UNROLLED.reset(token)


def is_unrolled() -> bool:
    """Whether list arithmetic is done tensor by tensor."""
    return _UNROLLED.get()


@contextmanager
def overwriting() -> Iterator[None]:
    """Inside this block, the functions whose name ends with ``_`` work in place; not for traced code."""
    token = _OVERWRITING.set(True)
    try:
        yield
    finally:
        _OVERWRITING.reset(token)


def mul(xs: list[Tensor], y: Scalar | list[Tensor]) -> list[Tensor]:
    """x * y."""
    if is_unrolled():
        return [x * s for x, s in zip(xs, y if isinstance(y, list) else [y] * len(xs), strict=True)]
    if isinstance(y, Tensor):  # name the overload: the default one reads a 0-d tensor back to the host
        return list(torch.ops.aten._foreach_mul.Tensor(xs, y))
    return list(torch._foreach_mul(xs, y))


def add(xs: list[Tensor], ys: list[Tensor]) -> list[Tensor]:
    """x + y."""
    if is_unrolled():
        return [x + y for x, y in zip(xs, ys, strict=True)]
    return list(torch._foreach_add(xs, ys))


def axpy(a: Scalar, xs: list[Tensor], ys: list[Tensor]) -> list[Tensor]:
    """a * x + y; returns ``ys`` where ``a`` is the number 0."""
    if isinstance(a, int | float):
        if a == 0:
            return ys
        return (
            [torch.add(y, x, alpha=a) for x, y in zip(xs, ys, strict=True)]
            if is_unrolled()
            else list(torch._foreach_add(ys, xs, alpha=a))
        )
    if is_unrolled():
        return [torch.addcmul(y, x, _like(a, y)) for x, y in zip(xs, ys, strict=True)]
    if ys and ys[0].is_cpu:  # one pass over memory; on other devices the fast kernel needs factors of equal shape
        return list(torch._foreach_addcmul(ys, xs, [_like(a, y) for y in ys]))
    return add(mul(xs, a), ys)


def addcmul(xs: list[Tensor], ys: list[Tensor], zs: list[Tensor], a: Scalar) -> list[Tensor]:
    """x + (a * y) * z."""
    if isinstance(a, Tensor):
        ys, a = mul(ys, a), 1.0
    if is_unrolled():
        return [torch.addcmul(x, y, z, value=a) for x, y, z in zip(xs, ys, zs, strict=True)]
    return list(torch._foreach_addcmul(xs, ys, zs, a))


def _like(a: Tensor, x: Tensor) -> Tensor:
    """A 0-d factor in the dtype of the tensor it multiplies, as fused operations need it."""
    return a if a.dtype == x.dtype else a.to(x.dtype)


def sub(xs: list[Tensor], ys: list[Tensor]) -> list[Tensor]:
    """x - y."""
    if is_unrolled():
        return [x - y for x, y in zip(xs, ys, strict=True)]
    return list(torch._foreach_sub(xs, ys))


def div(xs: list[Tensor], ys: list[Tensor]) -> list[Tensor]:
    """x / y."""
    if is_unrolled():
        return [x / y for x, y in zip(xs, ys, strict=True)]
    return list(torch._foreach_div(xs, ys))


def sqrt(xs: list[Tensor]) -> list[Tensor]:
    """The square root of every element."""
    return [x.sqrt() for x in xs] if is_unrolled() else list(torch._foreach_sqrt(xs))


def sign(xs: list[Tensor]) -> list[Tensor]:
    """The sign of every element."""
    return [x.sign() for x in xs] if is_unrolled() else list(torch._foreach_sign(xs))


def shift(xs: list[Tensor], y: Scalar) -> list[Tensor]:
    """x + y for one number y."""
    if is_unrolled():
        return [x + y for x in xs]
    if isinstance(y, Tensor):
        return list(torch.ops.aten._foreach_add.Tensor(xs, y))
    return list(torch._foreach_add(xs, y))


def lerp(xs: list[Tensor], ys: list[Tensor], weight: Scalar) -> list[Tensor]:
    """x + weight * (y - x)."""
    if is_unrolled():
        return [
            torch.lerp(x, y, _like(weight, x) if isinstance(weight, Tensor) else weight)
            for x, y in zip(xs, ys, strict=True)
        ]
    if isinstance(weight, int | float):
        return list(torch._foreach_lerp(xs, ys, weight))
    return axpy(weight, sub(ys, xs), xs)


def select(flag: Tensor, xs: list[Tensor], y: float) -> list[Tensor]:
    """x where the 0-d flag is true, else the number y."""
    return [torch.where(flag, x, y) for x in xs]


def norms(xs: list[Tensor]) -> Tensor:
    """The 2-norm of every tensor, (len(xs),), of the tensors' common dtype, at least float32."""
    found = [torch.linalg.vector_norm(x) for x in xs] if is_unrolled() else torch._foreach_norm(xs)
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in xs), torch.float32)
    return torch.stack([n.to(dtype) for n in found])


def global_norm(xs: list[Tensor]) -> Tensor:
    """The 2-norm of all elements together, 0-d, of the dtype of ``norms``."""
    return torch.linalg.vector_norm(norms(xs))


def mul_(y: Scalar, xs: list[Tensor]) -> list[Tensor]:
    """x * y."""
    if not _OVERWRITING.get():
        return mul(xs, y)
    if isinstance(y, Tensor):
        torch.ops.aten._foreach_mul_.Tensor(xs, y)
    else:
        torch._foreach_mul_(xs, y)
    return xs


def axpy_(a: Scalar, xs: list[Tensor], ys: list[Tensor]) -> list[Tensor]:
    """a * x + y."""
    if not _OVERWRITING.get():
        return axpy(a, xs, ys)
    if not isinstance(a, Tensor):
        torch._foreach_add_(ys, xs, alpha=a)
    elif ys and ys[0].is_cpu:  # as in axpy
        torch._foreach_addcmul_(ys, xs, [_like(a, y) for y in ys])
    else:
        torch._foreach_add_(ys, mul(xs, a))
    return ys


def addcmul_(ys: list[Tensor], zs: list[Tensor], a: float | Tensor, xs: list[Tensor]) -> list[Tensor]:
    """x + (a * y) * z."""
    if not _OVERWRITING.get():
        return addcmul(xs, ys, zs, a)
    torch._foreach_addcmul_(xs, ys, zs, a)
    return xs


def lerp_(ys: list[Tensor], weight: Scalar, xs: list[Tensor]) -> list[Tensor]:
    """x + weight * (y - x)."""
    if not _OVERWRITING.get():
        return lerp(xs, ys, weight)
    if isinstance(weight, Tensor):
        return axpy_(weight, sub(ys, xs), xs)
    torch._foreach_lerp_(xs, ys, weight)
    return xs


def max_(y: Scalar, xs: list[Tensor]) -> list[Tensor]:
    """The larger of x and one number y, element by element."""
    return [x.clamp_(min=y) if _OVERWRITING.get() else x.clamp(min=y) for x in xs]  # type: ignore[arg-type]
