"""The state of a run: one nested dict of tensors. A checkpoint restores the state and nothing else.

``params``   every trained tensor: of the model, and those that techniques add (``simclr/0.weight``)
``buffers``  the model's buffers (batch-norm statistics, scheduled rates)
``opt``      the optimiser's tensors, by slot (``momentum``) and then by parameter
``own``      each technique's own tensors, by technique
``sampler``  the tensors of a learning sampler, ``now`` and at the ``start`` of the epoch; absent for other samplers
``step``     number of updates so far; 0-d int64
``host``     the loop's and the observers' values, such as running sums and the best score; float64
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
INIT, SETUP, STEP, ORDER, HOST, STATISTICS, PROBE = range(7)
"""Purposes of a seed. Each is folded into the seed, so that the streams of random numbers are independent."""
NESTED = (dict, tuple)
"""What ``leaves`` looks into."""
HAS_MPS = torch.backends.mps.is_available()
"""Looked up once, to keep the call out of every step."""


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors of a nested dict, or of a tuple of nested dicts, depth first, in insertion order."""
    if not isinstance(tree, NESTED):
        yield tree
        return
    for branch in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(branch, NESTED):
            yield from leaves(branch)
        else:  # not by a call: every step lists its leaves
            yield branch


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested dict with their names, joined by dots, in insertion order."""
    for key, branch in tree.items():
        if isinstance(branch, dict):
            yield from named_leaves(branch, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", branch


def rebuild(like: Any, tensors: Iterator[Any]) -> Any:
    """A nested dict shaped like ``like`` with its leaves taken from ``tensors``."""
    if isinstance(like, dict):
        return {key: rebuild(branch, tensors) for key, branch in like.items()}
    return next(tensors)


def map_state(fn: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``fn`` to every tensor of a nested dict or of a tuple of nested dicts, which a model may return."""
    if isinstance(tree, dict):
        return {key: map_state(fn, branch) for key, branch in tree.items()}
    return tuple(map_state(fn, branch) for branch in tree) if isinstance(tree, tuple) else fn(tree)


def merged(join: Callable[[list[Tensor]], Tensor], trees: Sequence[Any]) -> Any:
    """Join trees of one structure leaf by leaf into one tree: ``merged(torch.cat, batches)``."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: merged(join, [tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple):
        return tuple(merged(join, parts) for parts in zip(*trees, strict=True))
    return join([*trees])


def fold(*parts: int) -> int:
    """Mix integers into one 63-bit seed (splitmix64 finaliser): nearby inputs give unrelated seeds.

    >>> fold(0, 1) != fold(1, 0)
    True
    """
    word = 0x9E3779B97F4A7C15
    for part in parts:
        word = (word ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        word ^= word >> 31
    return word >> 1


def step_seed(seed: int, step: int, *purpose: int) -> int:
    """The random seed of one update.

    Args:
        seed: of the run.
        step: number of the update.
        purpose: further integers for draws outside the update, such as a probe's; none for the update itself.
    """
    return fold(seed, STEP, step, *purpose)


def reseed_step(seed: int, step: int, *purpose: int) -> None:
    """Seed the generators for an update; the arguments are those of ``step_seed``."""
    reseed(step_seed(seed, step, *purpose))


def reseed(seed: int) -> None:
    """Seed the generators of the CPU and of the accelerator; a step draws from no other."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if HAS_MPS:
        torch.mps.manual_seed(seed)
