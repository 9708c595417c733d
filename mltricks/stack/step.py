"""The stacked step: the traced step of one trial under ``vmap``, with random draws made trial by trial.

Legend: K trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mltricks.batch import Batch
from mltricks.functional import foreach
from mltricks.graph.randomness import cut
from mltricks.graph.recorder import record
from mltricks.graph.replay import replay
from mltricks.graph.rewrite import peak_bytes, reuse_memory, tidy
from mltricks.graph.tracing import simplify, trace
from mltricks.optim.fused_node import fused_nodes
from mltricks.stack.layout import in_layout, stack_rows
from mltricks.state import State, leaves, map_state, rebuild, reseed
from mltricks.step import Hyper, Metrics, Step

Finish = Callable[[fx.GraphModule, list[Tensor]], Callable[..., Any]]


@dataclass
class Single:
    """The traced step of one trial, cut at its random draws.

    Attributes:
        draw: graph from inputs to random draws.
        reads: positions of the inputs that ``draw`` needs.
        rest: graph from inputs and draws to results.
        shape: structure of the step's return value, for rebuilding it.
        num_draws: number of random draws.
    """

    draw: fx.GraphModule
    reads: list[int]
    rest: fx.GraphModule
    shape: Any
    num_draws: int

    def rows(self, inputs: list[Tensor], dims: list[int | None], seeds: Iterable[int], one_seed: bool) -> list[Tensor]:
        """Draw the random numbers of each trial from its seed: (K, ...), or without the trial axis if all are equal."""
        read, at = [inputs[i] for i in self.reads], [dims[i] for i in self.reads]
        run = self.draw.forward
        if one_seed and all(dim is None for dim in at):
            reseed(next(iter(seeds)))
            return list(run(*read))
        drawn = []
        for k, seed in enumerate(seeds):
            reseed(seed)
            drawn.append(run(*[x if dim is None else x[k] for x, dim in zip(read, at, strict=True)]))
        return [stack_rows(values) for values in zip(*drawn, strict=True)]

    def shared_draws(self, dims: list[int | None], one_seed: bool) -> bool:
        return one_seed and all(dims[i] is None for i in self.reads)


class StackedStep:
    """A step over states that have a leading axis of K trials.

    Args:
        step: the pure step of one trial; it must not write to its arguments.
        num_trials: K.
        one_seed: whether all trials have the same seed; the leaves of their batches then have no leading axis.
        finish: turns the stacked graph into a callable; the default replays it.
    """

    def __init__(self, step: Step, num_trials: int, one_seed: bool = False, finish: Finish | None = None):
        self.step, self.num_trials, self.one_seed = step, num_trials, one_seed
        self.finish = finish or replay
        self.singles: dict[Any, Single] = {}
        self.layouts: list[tuple[int, ...]] = []
        """Strides of one trial's state before its first step; tracing needs them, and later steps may change them."""
        self.sizes: dict[int, StackedStep] = {num_trials: self}
        self.graphs: dict[Any, Callable[..., Any]] = {}
        self.peak_bytes = 0
        """Peak memory of a step in bytes; 0 until a step has been traced."""

    def resized(self, num_trials: int) -> StackedStep:
        """Return the same step for another number of trials; it reuses the trace of one trial."""
        if num_trials not in self.sizes:
            other = StackedStep(self.step, num_trials, self.one_seed, self.finish)
            other.singles, other.sizes, other.layouts = self.singles, self.sizes, self.layouts
            self.sizes[num_trials] = other
        return self.sizes[num_trials]

    @torch.no_grad()
    def __call__(self, state: State, batch: Batch, hyper: Hyper, seeds: Iterable[int]) -> tuple[State, Metrics]:
        """One update of every trial.

        Args:
            state: every leaf (K, ...); it is overwritten and must not be used again.
            batch: every leaf (K, ...), or without the trial axis if all trials have one seed.
            hyper: leaves (K,), or 0-d if all trials share the value.
            seeds: seed for the draws of each trial; read only if there are draws.

        Returns:
            The new stacked state and the metrics, each (K,).
        """
        parts = [list(leaves(tree)) for tree in (state, batch, hyper)]
        inputs = [*parts[0], *parts[1], *parts[2]]
        dims = self._dims(*parts)
        key = (*((x.shape, x.dtype) for x in leaves(batch)), *dims)
        if key not in self.graphs:
            self._trace(key, state, batch, hyper, inputs, dims)
        single = self.singles[key]
        draws = single.rows(inputs, dims, seeds, self.one_seed) if single.num_draws else []
        result = rebuild(single.shape, iter(self.graphs[key](*inputs, *draws)))
        return result["state"], result["metrics"]

    def _dims(self, state: list[Tensor], batch: list[Tensor], hyper: list[Tensor]) -> list[int | None]:
        """The ``in_dims`` of ``vmap``: which inputs have the trial axis."""
        return [0] * len(state) + [None if self.one_seed else 0] * len(batch) + [0 if h.ndim else None for h in hyper]

    def _trace(
        self, key: Any, state: State, batch: Batch, hyper: Hyper, inputs: list[Tensor], dims: list[int | None]
    ) -> None:
        kernels = fused_nodes("many" if self.finish is replay else "")
        # tracing draws random numbers, which must not move the generator on; torch._foreach_* fails under vmap
        with torch.random.fork_rng(), foreach.unrolled(), kernels:
            if key not in self.singles:
                given = iter(dims)
                one = [map_state(lambda t: _first(t, next(given)), tree) for tree in (state, batch, hyper)]
                self.layouts.extend([] if self.layouts else [t.stride() for t in leaves(one[0])])
                given_layouts = iter(self.layouts)
                one[0] = map_state(lambda t: in_layout(t, next(given_layouts)), one[0])
                self.singles[key] = _cut(*trace(self.step, one[0], one[1], one[2], functional=True))
            single = self.singles[key]
            draws = single.rows(inputs, dims, range(self.num_trials), self.one_seed) if single.num_draws else []
            drawn = None if single.shared_draws(dims, self.one_seed) else 0
            rows = torch.vmap(single.rest, in_dims=(*dims, *[drawn] * len(draws)))
            stacked = record(lambda *values: rows(*values), [*inputs, *draws])
        simplify(stacked)
        tidy(stacked)
        reuse_memory(stacked, range(len(list(leaves(state)))))
        self.peak_bytes = max(self.peak_bytes, peak_bytes(stacked))
        self.graphs[key] = self.finish(stacked, [*inputs, *draws])


def _first(t: Tensor, dim: int | None) -> Tensor:
    return t if dim is None else t[0]


def _cut(graph: fx.GraphModule, shape: Any) -> Single:
    """Cut a traced step at its random draws, and find the inputs that the draws need."""
    draw, rest, num_draws = cut(graph)
    placeholders = [node for node in draw.graph.nodes if node.op == "placeholder"]
    reads = [i for i, node in enumerate(placeholders) if node.users]
    for node in placeholders:
        if not node.users:
            draw.graph.erase_node(node)
    draw.recompile()
    _any_layout(rest)
    return Single(draw, reads, rest, shape, num_draws)


def _any_layout(rest: fx.GraphModule) -> None:
    """Replace ``view`` by ``reshape``: kernels may lay K trials out unlike the traced one, where a view fails."""
    for node in rest.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    rest.recompile()
