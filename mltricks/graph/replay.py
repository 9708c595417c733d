"""Replay a recorded graph at the cost of its kernels: write it out as one Python function, compiled once.

``GraphModule.forward`` looks up every operation by name and calls its Python wrapper, which takes as long as a small
kernel. Here each operation is called through its C++ entry, and a number in the place of a tensor argument becomes a
tensor once instead of at every call. Operations, order and results are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

EXACT = (torch.float32, torch.float64)
"""Types in which a 0-d tensor gives the same result as a Python number; lower ones would round the number first."""


def replay(graph: fx.GraphModule, example: Sequence[Tensor] = ()) -> Callable[..., list[Tensor]]:
    """The function that a graph describes.

    Args:
        graph: of ``mltricks.graph.recorder.record``: placeholders, constants, calls of functions and a list of results.
        example: unused; it is there since engines that compile a graph need example inputs.

    Returns:
        A function of the graph's inputs. Intermediate tensors are freed after their last use.
    """
    writer = _Writer(graph)
    lines = [writer.line(i, node) for i, node in enumerate(graph.graph.nodes)]
    body = "\n    ".join(filter(None, lines))
    source = f"def run({', '.join([*writer.inputs, *(f'{name}={name}' for name in writer.fixed)])}):\n    {body}\n"
    exec(compile(source, "<replayed graph>", "exec"), writer.fixed)
    return writer.fixed["run"]


class _Writer:
    """Writes a graph as Python source.

    Attributes:
        inputs: names of the function's arguments.
        fixed: operations and constants that the function reads, by name.
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
        """The Python statement for node ``i``; empty for an input or a constant."""
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
        """The Python expression of an argument."""
        if isinstance(arg, fx.Node):
            return self.names[arg]
        if isinstance(arg, list | tuple):
            return f"[{', '.join(map(self.value, arg))}]"
        return repr(arg) if arg is None or isinstance(arg, bool | int) else self.constant(arg)

    def constant(self, value: Any) -> str:
        """Keep a value that is the same at every call, and return its name."""
        name = f"c{len(self.fixed)}"
        self.fixed[name] = value
        return name


def _wrapped(node: fx.Node) -> list[Any]:
    """The arguments of a call; a float where the schema wants a Tensor becomes one."""
    schema = getattr(node.target, "_schema", None)
    value = node.meta.get("val")
    if schema is None or not isinstance(value, Tensor) or value.dtype not in EXACT:
        return list(node.args)
    types = [str(argument.type) for argument in schema.arguments]
    return [
        torch.tensor(arg, dtype=value.dtype) if isinstance(arg, float) and kind == "Tensor" else arg
        for arg, kind in zip(node.args, types, strict=False)
    ]
