"""Turning a step into one flat ATen graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from mltricks.batch import Batch
from mltricks.recorder import record
from mltricks.state import State, leaves, map_state, rebuild
from mltricks.step import Hyper, Metrics, Step

Example = tuple[State, Batch, Hyper]


def trace(step: Step, state: State, batch: Batch, hyper: Hyper, functional: bool = False) -> tuple[fx.GraphModule, Any]:
    """Trace a step.

    Args:
        step: the pure step; it must not write into its arguments.
        state, batch, hyper: an example of each; every leaf of ``hyper`` is a tensor.
        functional: write in-place operations as functional ones, which ``vmap`` needs.

    Returns:
        A graph module from the flat list of input tensors to the flat list of outputs, and a pair shaped as the
        step's result, whose leaves say how to rebuild it.
    """
    example = {"state": state, "batch": batch, "hyper": hyper}
    result: list[Any] = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        tree = rebuild(example, iter(inputs))
        new_state, metrics = step(tree["state"], tree["batch"], tree["hyper"])
        result[:] = [{"state": new_state, "metrics": metrics}]
        return list(leaves(result[0]))

    graph = record(flat, [leaf.clone() for leaf in leaves(example)], _decompositions(state) if functional else {})
    if functional:  # in a second pass: functorch transforms refuse requires_grad_ inside
        graph = record(torch.func.functionalize(graph), [leaf.clone() for leaf in leaves(example)])
    simplify(graph)
    return graph, map_state(lambda _: None, result[0])


def _decompositions(state: State) -> Any:
    """CUDA's dropout is one operation that draws and multiplies; ``vmap`` needs the draw by itself."""
    if not state["step"].is_cuda:
        return {}
    from torch._decomp import get_decompositions

    return get_decompositions([torch.ops.aten.native_dropout])


def simplify(graph: fx.GraphModule) -> None:
    """Drop what only automatic differentiation needed: detached copies and unused results."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


class TracedStep:
    """A step that traces itself once for every set of input shapes, and then replays the graph.

    Args:
        step: the pure step.
        finish: what to do with a traced graph before it is used; by default its own ``forward``.
    """

    def __init__(self, step: Step, finish: Callable[[fx.GraphModule, list[Tensor]], Callable[..., Any]] | None = None):
        self.step = step
        self.finish = finish or (lambda graph, example: graph.forward)
        self.graphs: dict[Any, tuple[Callable[..., Any], Any]] = {}

    @torch.no_grad()
    def __call__(self, state: State, batch: Batch, hyper: Hyper) -> tuple[State, Metrics]:
        inputs = [*leaves(state), *leaves(batch), *leaves(hyper)]
        key = tuple((x.shape, x.dtype) for x in batch.values())
        if key not in self.graphs:
            with torch.random.fork_rng():  # tracing runs the step once and must not use up its random numbers
                graph, shape = trace(self.step, state, batch, hyper)
            self.graphs[key] = self.finish(graph, inputs), shape
        run, shape = self.graphs[key]
        result = rebuild(shape, iter(run(*inputs)))
        return result["state"], result["metrics"]
