"""Make a traced graph cheaper to replay: remove duplicate and unused operations, and reuse memory.

A new tensor of some hundred KiB costs more than the arithmetic that fills it, because the system hands out its pages
one by one. So an operation writes into the storage of an operand that is not read again, where that is possible.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import fx

from mltricks.optim.fused_node import in_place_form

aten = torch.ops.aten
VIEWS = (aten.view.default, aten._unsafe_view.default, aten.expand.default)


def tidy(graph: fx.GraphModule) -> None:
    """Remove views that change nothing, double transposes, products with 1, and duplicate operations."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and (same := _same_as(node)) is not None:
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)
    _hoist(graph)
    _merge(graph.graph)
    graph.graph.eliminate_dead_code()  # dead nodes would still count as readers of a product
    _add_in_product(graph.graph)
    graph.graph.eliminate_dead_code()


def _same_as(node: fx.Node) -> fx.Node | None:
    """An earlier node that already holds the same tensor, or ``None``."""
    first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    if first is None:
        return None
    if node.target in VIEWS and _layout(node) == _layout(first):
        return first
    if node.target is aten._unsafe_view.default:
        node.target = aten.view.default  # the same operation, and declared as a view
    if node.target is aten.transpose.int and first.target is node.target and node.args[1:] == first.args[1:]:
        return first.args[0]  # type: ignore[return-value]
    return first if node.target is aten.mul.Scalar and node.args[1] == 1 and _layout(node) == _layout(first) else None


def _layout(node: fx.Node) -> Any:
    value = node.meta["val"]
    return (value.shape, value.stride(), value.dtype) if isinstance(value, torch.Tensor) else None


def _hoist(graph: fx.GraphModule) -> None:
    """Compute operations without inputs once instead of at every replay."""
    for number, node in enumerate(list(graph.graph.nodes)):
        if node.target in (aten.scalar_tensor.default, aten._to_copy.default) and not node.all_input_nodes:
            name = f"_constant_{number}"
            graph.register_buffer(name, node.target(*node.args, **node.kwargs), persistent=False)
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(name)
            constant.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(constant)
            graph.graph.erase_node(node)


def _merge(graph: fx.Graph) -> None:
    """Merge nodes that compute the same value."""
    seen: dict[str, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and not _is_random(node):
            first = seen.setdefault(f"{node.target} {node.args} {node.kwargs}", node)
            if first is not node:
                node.replace_all_uses_with(first)
                graph.erase_node(node)


def _add_in_product(graph: fx.Graph) -> None:
    """Fuse bmm and add into baddbmm: for a bias, or for the momentum that a gradient is added to."""
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or not all(isinstance(arg, fx.Node) for arg in node.args):
            continue
        first, second = node.args
        share = node.kwargs.get("alpha", 1)
        product, other = (first, second) if first.target is aten.bmm.default else (second, first)
        fits = product.target is aten.bmm.default and len(product.users) == 1 and _layout(node) == _layout(product)
        if not fits or other.meta["val"].dtype != node.meta["val"].dtype or (product is second and share != 1):
            continue
        with graph.inserting_before(node):
            sum_ = graph.call_function(aten.baddbmm.default, (other, *product.args), {"beta": share, "alpha": 1})
        sum_.meta.update(node.meta)
        node.replace_all_uses_with(sum_)
        graph.erase_node(node)


def _is_random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def reuse_memory(graph: fx.GraphModule, donated: Collection[int]) -> None:
    """Turn elementwise operations into their in-place forms where the operand is not read afterwards.

    A result that shares memory with an input that is not donated, or with another result, is copied.

    Args:
        graph: a functional ATen graph.
        donated: positions of the inputs that the caller will not use again.
    """
    nodes = list(graph.graph.nodes)
    placeholders = [node for node in nodes if node.op == "placeholder"]
    kept = {node for node in nodes if node.op == "get_attr"}
    kept |= {node for i, node in enumerate(placeholders) if i not in set(donated)}
    _copy_results(graph.graph, kept)
    nodes = list(graph.graph.nodes)
    roots = _roots(nodes)
    last = {roots[node]: i for i, user in enumerate(nodes) for node in user.all_input_nodes}
    for i, node in enumerate(nodes):
        target, operands = _in_place(node)
        written = {roots[operand] for operand in operands}
        others = {roots[n] for n in node.all_input_nodes if n not in operands}
        if (
            not operands
            or len(written) < len(operands)
            or written & (kept | others)
            or {last[r] for r in written} != {i}
        ):
            continue
        node.target = target
        for own, operand in zip(_results(node), operands, strict=True):
            root = roots[operand]  # the shared memory now lives as long as the result
            last[root] = last.get(own, i)
            roots = {n: root if r is own else r for n, r in roots.items()}


def _copy_results(graph: fx.Graph, kept: Collection[fx.Node]) -> None:
    roots = _roots(list(graph.nodes))
    output = next(iter(reversed(graph.nodes)))
    results: list[Any] = []
    taken: set[Any] = set(kept)
    with graph.inserting_before(output):
        for node in output.args[0]:  # type: ignore[union-attr]
            root = roots.get(node)  # type: ignore[arg-type]
            if root in taken:
                copy = graph.call_function(aten.clone.default, (node,))
                copy.meta["val"] = node.meta["val"]  # type: ignore[union-attr]
                node = copy
            taken.add(root)
            results.append(node)
    output.args = (results,)


def _roots(nodes: list[fx.Node]) -> dict[fx.Node, fx.Node]:
    """For every node the owner of its memory: itself, or the node that it is a view of."""
    roots: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        source = node.args[0] if node.target is operator.getitem else node
        shares = isinstance(source, fx.Node) and _is_view(source)
        roots[node] = roots[source.args[0]] if shares else node  # type: ignore[union-attr, index]
    return roots


def _results(node: fx.Node) -> list[fx.Node]:
    """The nodes of the result tensors: the getitem nodes of a tuple, or the node itself."""
    parts = [user for user in node.users if user.target is operator.getitem]
    return sorted(parts, key=lambda part: part.args[1]) if parts else [node]  # type: ignore[arg-type, return-value]


def _is_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


def _in_place(node: fx.Node) -> tuple[Any, list[fx.Node]]:
    """The in-place form of an operation and the operands it writes into; ``(None, [])`` where there is none."""
    if node.op != "call_function":
        return None, []
    if (kernel := in_place_form(node.target)) is not None:
        _, _, _, slots, params, *_ = node.args
        operands = [*params, *slots]  # type: ignore[misc]
        whole = len(_results(node)) == len(operands) and all(n.meta["val"].is_contiguous() for n in operands)
        return kernel, operands if whole else []
    elementwise = torch.Tag.pointwise in getattr(node.target, "tags", ()) and not _is_random(node)
    operand = node.args[0] if node.args and (elementwise or node.target is aten.baddbmm.default) else None
    if not isinstance(operand, fx.Node) or _layout(operand) is None or _layout(operand) != _layout(node):
        return None, []
    if not _is_dense(operand.meta["val"]):
        return None, []
    packet = getattr(aten, f"{node.target._schema.name.partition('::')[2]}_", None)  # type: ignore[union-attr]
    target = getattr(packet, node.target._overloadname, None)  # type: ignore[union-attr]
    return target, [operand] if target is not None else []


def _is_dense(value: torch.Tensor) -> bool:
    """Whether the elements of a tensor fill its storage without gaps and without overlap."""
    expected = 1
    for stride, size in sorted((d, n) for n, d in zip(value.shape, value.stride(), strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def peak_bytes(graph: fx.GraphModule) -> int:
    """The peak memory of the inputs, constants and intermediate tensors of a graph, in bytes."""
    nodes = list(graph.graph.nodes)
    roots = _roots(nodes)
    last = {roots[node]: i for i, user in enumerate(nodes) for node in user.all_input_nodes}
    now = peak = 0
    for i, node in enumerate(nodes):
        if roots[node] is node and not _writes(node):
            now += _bytes(node)
            peak = max(peak, now)
        now -= sum(_bytes(root) for root in {roots[n] for n in node.all_input_nodes} if last[root] == i)
    return peak


def _writes(node: fx.Node) -> bool:
    """Whether an operation is in-place: its result lies in the memory of the operand."""
    return str(getattr(node.target, "_schema", "")).partition("::")[2].partition(".")[0].endswith("_")


def _bytes(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0
