"""Record the tensor operations of a function as one flat graph of ATen operations.

It does what ``torch.fx.experimental.proxy_tensor.make_fx`` does with real tensors and nothing more: no symbolic
shapes, no fake tensors. It does not import the compiler, which alone takes longer than recording a small step.
"""

from __future__ import annotations

import linecache
import operator
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
IMPLICIT = torch._C.DispatchKey.CompositeImplicitAutograd
"""Dispatch key of operations that are composed of others: those others are recorded instead."""


def record(
    fn: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], table: Mapping[Any, Callable[..., Any]] | None = None
) -> fx.GraphModule:
    """Run a function once and record every operation.

    Args:
        fn: takes tensors and returns tensors. Any other tensor that it reads is recorded as a constant.
        inputs: the tensors to call it with; it may write into them.
        table: decompositions: an operation to the function that replaces it.

    Returns:
        A graph from the inputs to the results; ``meta["val"]`` of a node is a meta tensor with the layout of its value.

    Raises:
        ValueError: the function reads a tensor back as a number, or a shape depends on the content of a tensor; the
            message names the line.
    """
    recorder = _Recorder(table or {})
    given = [recorder.placeholder(i, t) for i, t in enumerate(inputs)]
    with recorder:
        results = fn(*given)
    recorder.graph.output([recorder.node_of(t) for t in results])
    return fx.GraphModule(recorder.constants, recorder.graph)


class _Recorder(TorchDispatchMode):
    """A dispatch mode: it receives every operation before the kernel runs."""

    def __init__(self, table: Mapping[Any, Callable[..., Any]]):
        super().__init__()
        self.table = table
        self.graph = fx.Graph()
        self.constants = torch.nn.Module()
        self.nodes: Any = WeakTensorKeyDictionary()
        self.num_constants = 0

    def placeholder(self, number: int, t: Tensor) -> Tensor:
        """Add an input of the graph. A tensor that is given twice becomes two inputs, by a view."""
        t = t.view_as(t) if t in self.nodes else t
        node = self.graph.placeholder(f"input_{number}")
        self._note(node, t)
        return t

    def node_of(self, t: Tensor) -> fx.Node:
        """The node that produced a tensor; an unknown tensor becomes a constant of the graph."""
        if t not in self.nodes:
            name = f"constant_{self.num_constants}"
            self.num_constants += 1
            self.constants.register_buffer(name, t.detach(), persistent=False)
            self._note(self.graph.get_attr(name), t)
        return self.nodes[t]

    def _note(self, node: fx.Node, t: Tensor) -> None:
        node.meta["val"], node.meta["device"] = _layout(t), t.device
        self.nodes[t] = node

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # this mode is never compiled; the base class would import the compiler to find out

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.table:
            with self:
                result = self.table[func](*args, **kwargs)
            if result is not NotImplemented:
                return result
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), IMPLICIT):
            with self:
                return func._op_dk(IMPLICIT, *args, **kwargs)
        if torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise ValueError(
                f"the step cannot be traced, because it reads the content of a tensor{calling_line()}. "
                "Compute it with tensors, as torch.where does, or type engine=eager (in a sweep with "
                "fuse=false)."
            )
        if func is aten.lift_fresh.default:
            func = aten.lift_fresh_copy.default  # an in-place operation must not change the constant
        target, (given, named) = func, tree_map(self._argument, (args, kwargs))
        result = func(*args, **kwargs)
        node = self.graph.call_function(target, tuple(given), named)
        self._results(node, result)
        return result

    def _argument(self, value: Any) -> Any:
        return self.node_of(value) if isinstance(value, Tensor) else value

    def _results(self, node: fx.Node, result: Any) -> None:
        if isinstance(result, Tensor):
            self._note(node, result)
        elif isinstance(result, tuple | list):
            node.meta["val"] = tree_map(lambda t: _layout(t) if isinstance(t, Tensor) else t, tuple(result))
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._note(self.graph.call_function(operator.getitem, (node, i)), part)


def calling_line() -> str:
    """The innermost line of Python on the stack that is neither PyTorch's nor of this module, for a message."""
    inside = (os.path.dirname(torch.__file__) + os.sep, __file__)
    for frame, line in traceback.walk_stack(sys._getframe()):
        file = frame.f_code.co_filename
        if not file.startswith(inside) and os.path.isfile(file):
            return f" in {os.path.relpath(file)}, line {line}: {linecache.getline(file, line).strip()}"
    return ""


def _layout(t: Tensor) -> Tensor:
    return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta")
