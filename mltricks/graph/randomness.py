"""Taking the random draws out of a traced step, so that each can be made from its own trial's seed.

``vmap`` has one generator for all its rows. A trial in a stack shall see the numbers it would have seen alone, so the
traced graph is cut in two: what the random operations need and the draws themselves, run trial by trial after
reseeding; and all the rest, which takes the draws as inputs and can be stacked.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
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
    aten.native_dropout.default,
}
"""Operations that read the shape of their first argument and not its values, as far as they draw."""
OVERWRITES = {
    *(aten.bernoulli_, aten.uniform_, aten.normal_, aten.random_),
    *(aten.exponential_, aten.cauchy_, aten.geometric_, aten.log_normal_),
}
"""In-place draws, which read nothing of the tensor that they fill."""


def is_random(node: fx.Node) -> bool:
    """Whether a node draws random numbers; attention is tagged so, and draws only where it drops weights."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    names = [argument.name for argument in target._schema.arguments]
    if "attention" not in target.name() or "dropout_p" not in names:
        return True
    place = names.index("dropout_p")
    return bool(node.args[place] if place < len(node.args) else node.kwargs.get("dropout_p", 0.0))


@dataclass(frozen=True)
class Draw:
    """A random operation as the step itself makes it, before in-place operations are replaced.

    Attributes:
        target: the operation.
        layouts: the strides of its arguments by position; ``None`` where one is no tensor.
    """

    target: Any
    layouts: tuple[tuple[int, ...] | None, ...]


def remember_draws(eager: fx.GraphModule, functional: fx.GraphModule) -> None:
    """Note at every random node of a functional graph what it is in the graph that it was made from.

    A draw fills memory in the order in which it lies there, so that its values depend on strides; replacing in-place
    operations changes both.

    Raises:
        ValueError: the graphs do not draw the same.
    """
    before, after = ([n for n in graph.graph.nodes if is_random(n)] for graph in (eager, functional))
    if len(before) != len(after):
        raise ValueError("the step cannot be stacked: its random operations cannot be taken out of it.")
    for was, node in zip(before, after, strict=True):
        layouts = tuple(a.meta["val"].stride() if isinstance(a, fx.Node) else None for a in was.args)
        node.meta["draw"] = Draw(was.target, layouts)


def cut(graph: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule, int]:
    """Cut a functional ATen graph at its random nodes, as ``remember_draws`` has left them.

    Returns:
        ``draw(*inputs) -> list of draws``, in the order in which the graph makes them; ``rest(*inputs, *draws)``, the
        graph without randomness; and the number of draws.

    Raises:
        ValueError: as ``check_draws`` does.
    """
    check_draws(graph)
    random = [node for node in graph.graph.nodes if is_random(node)]
    return _draws(graph, random), _rest(graph, random), len(random)


def check_draws(graph: fx.GraphModule) -> None:
    """Refuse operations whose draws cannot be taken out.

    Raises:
        ValueError: an operation draws inside its kernel and gives several results.
    """
    for node in graph.graph.nodes:
        if is_random(node) and len(node.target._schema.returns) != 1 and node.target is not aten.native_dropout.default:
            raise ValueError(f"the step cannot be stacked: {node.target} draws inside its kernel.")


def _draws(graph: fx.GraphModule, random: list[fx.Node]) -> fx.GraphModule:
    needed: set[fx.Node] = set()
    pending = list(random)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            unread = node.args[0] if _reads_shape_only(node) else None
            pending += [n for n in node.all_input_nodes if n is not unread]
    new, copies = fx.Graph(), {}

    def copy_of(node: fx.Node) -> fx.Node:
        if node not in copies:  # only its shape is read
            copies[node] = _empty(new, node, node.meta["val"].stride())
        return copies[node]

    for node in graph.graph.nodes:
        if node in random:
            copies[node] = _drawn(new, node, copies)
        elif node.op == "placeholder" or node in needed:
            copies[node] = new.node_copy(node, copy_of)
    new.output([copies[node] for node in random])
    return fx.GraphModule(graph, new)


def _drawn(new: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node]) -> fx.Node:
    """The draw of a random node, on arguments with the strides that they have in the step itself."""
    draw: Draw = node.meta["draw"]
    given: list[Any] = []
    for position, argument in enumerate(node.args):
        if not isinstance(argument, fx.Node):
            given.append(argument)
            continue
        made = _empty(new, argument, draw.layouts[position])
        if position == 0 and node.target is aten.native_dropout.default:
            made = new.call_function(aten.ones_like.default, (made,))
        elif position > 0 or not _reads_shape_only(node):
            made = new.call_function(aten.copy_.default, (made, copies[argument]))
        given.append(made)
    result = new.call_function(draw.target, tuple(given), dict(node.kwargs))
    return new.call_function(operator.getitem, (result, 1)) if node.target is aten.native_dropout.default else result


def _empty(new: fx.Graph, node: fx.Node, strides: Sequence[int] | None) -> fx.Node:
    """A tensor of a node's shape and type with the given strides."""
    value = node.meta["val"]
    options = {"dtype": value.dtype, "device": node.meta["device"]}
    return new.call_function(aten.empty_strided.default, (list(value.shape), list(strides or ())), options)


def _reads_shape_only(node: fx.Node) -> bool:
    """Whether an operation reads the shape of its first argument and not its values."""
    draw = node.meta.get("draw")
    return node.target in LIKE or (draw is not None and draw.target.overloadpacket in OVERWRITES)


def _rest(graph: fx.GraphModule, random: list[fx.Node]) -> fx.GraphModule:
    new: fx.Graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    nodes = list(graph.graph.nodes)
    for node in [n for n in nodes if n.op == "placeholder"]:
        copies[node] = new.node_copy(node)
    for i, node in enumerate(random):
        copies[node] = new.placeholder(f"draw_{i}")
    for node in nodes:
        if node.target is operator.getitem and node.args[0] in random:
            copies[node] = _dropped(new, node, copies)
        elif node not in copies:
            copies[node] = new.node_copy(node, lambda n: copies[n])
    new.eliminate_dead_code()
    return fx.GraphModule(graph, new)


def _dropped(new: fx.Graph, part: fx.Node, copies: dict[fx.Node, fx.Node]) -> fx.Node:
    """A result of ``native_dropout``, given its mask: x mask / (1 - p), or the mask."""
    dropout, number = part.args
    assert isinstance(dropout, fx.Node)
    x, p, train = dropout.args
    mask = copies[dropout]
    if number == 1:
        return mask
    if train is False:
        return copies[x]  # type: ignore[index]
    masked = new.call_function(aten.mul.Tensor, (copies[x], mask))  # type: ignore[index]
    return new.call_function(aten.mul.Tensor, (masked, 0.0 if p == 1 else 1 / (1 - p)))  # type: ignore[operator]
