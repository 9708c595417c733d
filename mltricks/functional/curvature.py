"""How sharp a minimum is: the rise of the loss around the weights, and the top eigenvalue of its Hessian.

A loss is given as a function from parameters to the terms that add up to it, one for each batch, so that a large sample
needs the memory of one batch. Legend: n parameters in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.technique import Params

Terms = Callable[[Params], Iterator[Tensor]]
"""The terms of a loss, each 0-d, as a function of the parameters."""
Direction = list[Tensor]
"""A tensor for every parameter, in order."""


@dataclass(frozen=True)
class Eigenvalue:
    """The result of a power iteration.

    Attributes:
        value: the eigenvalue.
        vector: its unit eigenvector.
        iterations: products with the Hessian.
        residual: ||H v - value v|| / |value|; 0 for an exact pair.
    """

    value: float
    vector: Direction
    iterations: int
    residual: float


@torch.no_grad()
def value_of(loss: Terms, params: Params) -> float:
    """The loss."""
    return float(sum(float(term) for term in loss(params)))


def gradient_of(loss: Terms, params: Params) -> tuple[float, Direction]:
    """The loss and its gradient."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    value, total = 0.0, [torch.zeros_like(p) for p in params.values()]
    for term in loss(leaves):
        found = torch.autograd.grad(term, list(leaves.values()), materialize_grads=True)
        value, total = value + float(term.detach()), [t + g for t, g in zip(total, found, strict=True)]
    return value, total


def hessian_product(loss: Terms, params: Params, vector: Direction) -> Direction:
    """H v, with H the Hessian of the loss, by differentiating the product of gradient and v."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    total = [torch.zeros_like(p) for p in params.values()]
    for term in loss(leaves):
        first = torch.autograd.grad(term, list(leaves.values()), create_graph=True, materialize_grads=True)
        along = sum((g * v).sum() for g, v in zip(first, vector, strict=True) if g.requires_grad)
        if isinstance(along, Tensor):  # else the loss is linear
            found = torch.autograd.grad(along, list(leaves.values()), materialize_grads=True)
            total = [t + g for t, g in zip(total, found, strict=True)]
    return total


def top_eigenvalue(loss: Terms, params: Params, most: int, tolerance: float, seed: int = 0) -> Eigenvalue:
    """The largest eigenvalue of the Hessian, by power iteration.

    A power iteration finds the eigenvalue of largest magnitude. If that is negative, a second one is made with the
    Hessian shifted by it, whose eigenvalue of largest magnitude is the largest one.

    Args:
        loss, params: the loss and where to measure.
        most: products with the Hessian in one iteration, >= 1.
        tolerance: the iteration ends when the eigenvalue changes by less than this share of it, > 0.
        seed: of the first vector.
    """
    found = power_iteration(loss, params, 0.0, most, tolerance, seed)
    if found.value >= 0:
        return found
    shifted = power_iteration(loss, params, found.value, most, tolerance, seed)
    return Eigenvalue(shifted.value, shifted.vector, found.iterations + shifted.iterations, shifted.residual)


def power_iteration(
    loss: Terms, params: Params, shift: float, most: int, tolerance: float, seed: int = 0
) -> Eigenvalue:
    """The eigenvalue of H for which eigenvalue - ``shift`` is largest in magnitude; arguments of ``top_eigenvalue``."""
    generator = torch.Generator().manual_seed(seed)
    vector = unit([torch.randn(p.shape, generator=generator).to(p) for p in params.values()])
    value, residual, count = math.inf, math.inf, 0
    while count < most:
        product, last = hessian_product(loss, params, vector), value
        count += 1
        value = dot(vector, product)
        residual = norm([h - value * v for h, v in zip(product, vector, strict=True)]) / max(abs(value), 1e-30)
        moved = [h - shift * v for h, v in zip(product, vector, strict=True)]
        if norm(moved) == 0 or abs(value - last) <= tolerance * abs(value):
            break
        vector = unit(moved)
    return Eigenvalue(value, vector, count, residual)


def largest_in_box(loss: Terms, params: Params, epsilon: float, steps: int) -> float:
    """The largest loss found within |z_i| <= epsilon (|w_i| + 1) around the weights w.

    Every step goes to the corner to which the gradient points. Where the loss is convex, no step lowers it; where it is
    not, the largest value on the way counts, so it is a lower bound of the maximum.

    Args:
        loss, params: the loss and the weights.
        epsilon: size of the box, > 0.
        steps: gradients, >= 1.
    """
    sizes = [epsilon * (p.abs() + 1) for p in params.values()]
    return _ascend(loss, params, lambda g: [s * d.sign() for s, d in zip(sizes, g, strict=True)], steps)


def largest_in_ball(loss: Terms, params: Params, rho: float, steps: int) -> float:
    """The largest loss found within distance ``rho`` of the weights; otherwise as ``largest_in_box``.

    Every step goes to the point of the sphere to which the gradient points; the first one is that of SAM.
    """
    return _ascend(loss, params, lambda g: [rho * d for d in unit(g)], steps)


def _ascend(loss: Terms, params: Params, farthest: Callable[[Direction], Direction], steps: int) -> float:
    at, best = params, -math.inf
    for _ in range(steps):
        value, gradient = gradient_of(loss, at)
        best = max(best, value)
        at = moved(params, farthest(gradient))
    return max(best, value_of(loss, at))


def moved(params: Params, by: Direction, factor: float = 1.0) -> Params:
    """The parameters plus ``factor`` times a direction."""
    return {name: p + factor * d for (name, p), d in zip(params.items(), by, strict=True)}


def dot(a: Direction, b: Direction) -> float:
    return float(sum((x.double() * y.double()).sum() for x, y in zip(a, b, strict=True)))


def norm(a: Direction) -> float:
    return math.sqrt(dot(a, a))


def unit(a: Direction) -> Direction:
    """The direction with length 1; unchanged if it is zero."""
    length = norm(a)
    return [x / length for x in a] if length else a
