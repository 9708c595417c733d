"""Trace a step into one flat graph of ATen operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from mltricks.batch import Batch
from mltricks.graph.randomness import check_draws, remember_draws
from mltricks.graph.recorder import record
from mltricks.graph.replay import replay
from mltricks.optim.fused_node import fused_nodes
from mltricks.state import State, leaves, map_state, rebuild
from mltricks.step import Hyper, Metrics, Step

Example = tuple[State, Batch, Hyper]
aten = torch.ops.aten
MEAN = 1
"""ATen's code for `reduction="mean"`."""


def trace(step: Step, state: State, batch: Batch, hyper: Hyper, functional: bool = False) -> tuple[fx.GraphModule, Any]:
    """Trace a step.

    Args:
        step: the pure step; it must not write into its arguments.
        state, batch, hyper: an example of each; every leaf of ``hyper`` is a tensor.
        functional: replace in-place operations by functional ones, as ``vmap`` needs.

    Returns:
        A graph module from the flat list of input tensors to the flat list of outputs, and a nested dict with the
        structure of the step's result, from which ``rebuild`` restores it.
    """
    example = {"state": state, "batch": batch, "hyper": hyper}
    result: list[Any] = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        tree = rebuild(example, iter(inputs))
        new_state, metrics = step(tree["state"], tree["batch"], tree["hyper"])
        result[:] = [{"state": new_state, "metrics": metrics}]
        return list(leaves(result[0]))

    def recorded() -> fx.GraphModule:
        return record(flat, [leaf.clone() for leaf in leaves(example)], _decompositions() if functional else {})

    graph = recorded()
    if any(_is_fused_recurrence(node) for node in graph.graph.nodes):
        graph = _without_fused_recurrence(recorded)
    if functional and any(_is_fused_attention(node) for node in graph.graph.nodes):
        check_draws(graph)
        graph = _without_fused_attention(recorded)
    if functional:  # in a second pass: functorch transforms refuse requires_grad_ inside
        eager, graph = graph, record(torch.func.functionalize(graph), [leaf.clone() for leaf in leaves(example)])
        remember_draws(eager, graph)
    simplify(graph)
    return graph, map_state(lambda _: None, result[0])


def _is_fused_attention(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and "_scaled_dot_product" in node.target.name()


def _without_fused_attention(fn: Callable[[], fx.GraphModule]) -> fx.GraphModule:
    """Call a function while attention is written out: a stack has other layouts than its fused kernels can read."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        return fn()


def _is_fused_recurrence(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and "mkldnn_rnn" in node.target.name()


def _without_fused_recurrence(fn: Callable[[], fx.GraphModule]) -> fx.GraphModule:
    """Call a function while recurrent layers are made of basic operations.

    The gradient of the CPU's fused kernel needs a workspace that only a forward pass with gradient fills, which a
    replay is not; and the kernel has no batching rule.
    """
    kept = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags also sets, and warns of, another switch
    try:
        return fn()
    finally:
        torch._C._set_mkldnn_enabled(kept)


def _decompositions() -> dict[Any, Any]:
    """Operations that ``vmap`` needs in another form: the gradient of CUDA's dropout, and NLL.

    ``vmap`` has its own decomposition of NLL, but that imports sympy and takes more operations.
    """
    return {
        aten.nll_loss_forward.default: _nll_loss,
        aten.nll_loss_backward.default: _nll_loss_grad,
        aten.native_dropout_backward.default: lambda grad, mask, scale: grad * mask * scale,
    }


def _nll_loss(log_p: Tensor, y: Tensor, weight: Any, reduction: int, ignored: int) -> Any:
    """The mean of -log_p of the true class: log_p (B, K), y (B,) -> 0-d."""
    if weight is not None or reduction != MEAN or log_p.ndim != 2:
        return NotImplemented
    kept = y != ignored
    picked = log_p.gather(1, (y * kept).unsqueeze(1)).squeeze(1)
    count = kept.sum().to(log_p.dtype)
    return -torch.where(kept, picked, 0.0).sum() / count, count


def _nll_loss_grad(
    grad: Tensor, log_p: Tensor, y: Tensor, weight: Any, reduction: int, ignored: int, count: Tensor
) -> Any:
    """The gradient of ``_nll_loss`` with respect to ``log_p``."""
    if weight is not None or reduction != MEAN or log_p.ndim != 2:
        return NotImplemented
    kept = y != ignored
    share = torch.where(kept, -grad / count, 0.0)
    return torch.zeros_like(log_p).scatter(1, (y * kept).unsqueeze(1), share.unsqueeze(1))


def simplify(graph: fx.GraphModule) -> None:
    """Drop the nodes that only automatic differentiation needed: detached aliases and unused results."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()


class TracedStep:
    """A step that traces itself once for every set of input shapes, and then replays the graph.

    Args:
        step: the pure step.
        finish: turns a traced graph into a callable; by default ``replay``.
    """

    def __init__(self, step: Step, finish: Callable[[fx.GraphModule, list[Tensor]], Callable[..., Any]] | None = None):
        self.step = step
        self.finish = finish or replay
        self.graphs: dict[Any, tuple[Callable[..., Any], Any]] = {}

    @torch.no_grad()
    def __call__(self, state: State, batch: Batch, hyper: Hyper) -> tuple[State, Metrics]:
        inputs = [*leaves(state), *leaves(batch), *leaves(hyper)]
        key = tuple((x.shape, x.dtype) for x in leaves(batch))
        if key not in self.graphs:
            kernels = fused_nodes("one" if self.finish is replay else "")
            with torch.random.fork_rng(), kernels:  # tracing runs the step once: restore the generator afterwards
                graph, shape = trace(self.step, state, batch, hyper)
            self.graphs[key] = self.finish(graph, inputs), shape
        run, shape = self.graphs[key]
        result = rebuild(shape, iter(run(*inputs)))
        return result["state"], result["metrics"]
