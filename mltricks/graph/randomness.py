"""Taking the random draws out of a traced step, so that each can be made from its own trial's seed.

``vmap`` has one generator for all its rows. A trial in a stack shall see the numbers it would have seen alone, so the
traced graph is cut in two: what the random operations need and the draws themselves, run trial by trial after
reseeding; and all the rest, which takes the draws as inputs and can be stacked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
LIKE = {
    aten.empty_like.default,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.rand_like.default,
    aten.randn_like.default,
    aten.bernoulli.p,
    aten.new_empty.default,
    aten.new_zeros.default,
}
"""Operations that read the shape of their first argument and not its values."""


def is_random(node: fx.Node) -> bool:
    """Whether a node draws random numbers."""
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def cut(graph: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule, int]:
    """Cut a functional ATen graph at its random nodes.

    Returns:
        ``draw(*inputs) -> list of draws``, in the order in which the graph makes them; ``rest(*inputs, *draws)``, the
        graph without randomness; and the number of draws.
    """
    random = [node for node in graph.graph.nodes if is_random(node)]
    return _draws(graph, random), _rest(graph, random), len(random)


def _draws(graph: fx.GraphModule, random: list[fx.Node]) -> fx.GraphModule:
    needed: set[fx.Node] = set()
    pending = list(random)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += [n for n in node.all_input_nodes if not _reads_shape_only(node, n)]
    new, copies = fx.Graph(), {}

    def copy_of(node: fx.Node) -> fx.Node:
        if node not in copies:  # only its shape is read
            value = node.meta["val"]
            arguments = (list(value.shape), list(value.stride()))
            options = {"dtype": value.dtype, "device": node.meta["device"]}
            copies[node] = new.call_function(aten.empty_strided.default, arguments, options)
        return copies[node]

    for node in graph.graph.nodes:
        if node.op == "placeholder" or node in needed:
            copies[node] = new.node_copy(node, copy_of)
    new.output([copies[node] for node in random])
    return fx.GraphModule(graph, new)


def _reads_shape_only(node: fx.Node, argument: fx.Node) -> bool:
    return node.target in LIKE and node.args[0] is argument


def _rest(graph: fx.GraphModule, random: list[fx.Node]) -> fx.GraphModule:
    new: fx.Graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    nodes = list(graph.graph.nodes)
    for node in [n for n in nodes if n.op == "placeholder"]:
        copies[node] = new.node_copy(node)
    for i, node in enumerate(random):
        copies[node] = new.placeholder(f"draw_{i}")
    for node in nodes:
        if node not in copies:
            copies[node] = new.node_copy(node, lambda n: copies[n])
    new.eliminate_dead_code()
    return fx.GraphModule(graph, new)
