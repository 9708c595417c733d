"""Replaying a recorded graph at the cost of its kernels: the function it stands for, written out and compiled once.

``GraphModule.forward`` looks every operation up by name and goes through its Python wrapper, which takes as long as a
small kernel. Here each is called as the kernel's own entry, and a number that takes the place of a tensor is made one
beforehand instead of at every call. The operations, their order and their results are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

EXACT = (torch.float32, torch.float64)
"""In other types an operation computes with a number in higher precision than a tensor of its own type has."""


def replay(graph: fx.GraphModule, example: Sequence[Tensor] = ()) -> Callable[..., list[Tensor]]:
    """The function that a graph stands for.

    Args:
        graph: of ``mltricks.graph.recorder.record``: placeholders, constants, calls of functions and a list of results.
        example: inputs, not used; engines that compile a graph need them.

    Returns:
        A function of the graph's inputs. Intermediate tensors are given back as soon as nobody reads them any more.
    """
    writer = _Writer(graph)
    lines = [writer.line(i, node) for i, node in enumerate(graph.graph.nodes)]
    body = "\n    ".join(filter(None, lines))
    source = f"def run({', '.join([*writer.inputs, *(f'{name}={name}' for name in writer.fixed)])}):\n    {body}\n"
    exec(compile(source, "<replayed graph>", "exec"), writer.fixed)
    return writer.fixed["run"]


class _Writer:
    """Writes a graph as Python.

    Attributes:
        inputs: names of the function's arguments.
        fixed: what the function reads beside them, by name: operations and constants.
    """

    def __init__(self, graph: fx.GraphModule):
        self.graph = graph
        self.inputs: list[str] = []
        self.fixed: dict[str, Any] = {}
        self.names: dict[fx.Node, str] = {}
        self.read_last: dict[int, list[fx.Node]] = {}
        last = {node: i for i, user in enumerate(graph.graph.nodes) for node in user.all_input_nodes}
        for node, i in last.items():
            self.read_last.setdefault(i, []).append(node)

    def line(self, i: int, node: fx.Node) -> str:
        """What node number ``i`` is in Python; nothing for an input or a constant."""
        if node.op == "output":
            return f"return {self.value(node.args[0])}"
        if node.op == "get_attr":
            self.names[node] = self.constant(getattr(self.graph, str(node.target)))
            return ""
        self.names[node] = f"v{i}"
        if node.op == "placeholder":
            self.inputs.append(f"v{i}")
            return ""
        given = [self.value(arg) for arg in _wrapped(node)]
        given += [f"{name}={self.value(arg)}" for name, arg in node.kwargs.items()]
        done = [self.names[n] for n in self.read_last.get(i, []) if n.op != "get_attr"]
        target: Any = node.target
        call = f"v{i} = {self.constant(getattr(target, '_op', target))}({', '.join(given)})"
        return "; ".join([call, *([f"del {', '.join(done)}"] if done else [])])

    def value(self, arg: Any) -> str:
        """An argument in Python."""
        if isinstance(arg, fx.Node):
            return self.names[arg]
        if isinstance(arg, list | tuple):
            return f"[{', '.join(map(self.value, arg))}]"
        return repr(arg) if arg is None or isinstance(arg, bool | int) else self.constant(arg)

    def constant(self, value: Any) -> str:
        """The name of something that is the same at every call."""
        name = f"c{len(self.fixed)}"
        self.fixed[name] = value
        return name


def _wrapped(node: fx.Node) -> list[Any]:
    """The arguments of a call, with tensors for the floats that its schema takes as such."""
    schema = getattr(node.target, "_schema", None)
    value = node.meta.get("val")
    if schema is None or not isinstance(value, Tensor) or value.dtype not in EXACT:
        return list(node.args)
    types = [str(argument.type) for argument in schema.arguments]
    return [
        torch.tensor(arg, dtype=value.dtype) if isinstance(arg, float) and kind == "Tensor" else arg
        for arg, kind in zip(node.args, types, strict=False)
    ]
