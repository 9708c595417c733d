"""A replayed graph gives the same results as the graph, bit for bit, and frees tensors after their last use."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from mltricks.graph.recorder import record
from mltricks.graph.replay import replay

aten = torch.ops.aten


def arithmetic(x: Tensor) -> list[Tensor]:
    """Operations with numbers in place of tensors, lists of tensors, keywords, several results, a constant."""
    low, high = x.mul(0.999).add(0.1, alpha=0.3).div(3.0).sub(0.7).aminmax(dim=0)
    return [
        torch.cat([low[None], high[None]]),
        torch.where(x > 0.1, x, 0.001),
        x.sum(0, keepdim=True) / 7,
        x.lerp(-x, 0.1),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64])
def test_it_equals_the_module_bit_for_bit(dtype: torch.dtype) -> None:
    x = (torch.randn(64, 8) * 10).to(dtype)
    fn = arithmetic if dtype.is_floating_point else lambda x: [x * 0.999, x + 0.1, x * 3]
    graph = record(fn, [x])
    for found, wanted in zip(replay(graph)(x), fn(x), strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)


def test_a_0d_tensor_with_a_number_has_the_right_type() -> None:
    fn = lambda x: [x * 0.1, 1.0 - x, x**2.5]  # noqa: E731
    for x in (torch.tensor(0.3), torch.tensor(0.3, dtype=torch.float64)):
        for found, wanted in zip(replay(record(fn, [x]))(x), fn(x), strict=True):
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


def test_random_draws_use_the_generator() -> None:
    x = torch.zeros(100)
    run = replay(record(lambda x: [torch.nn.functional.dropout(x + 1, 0.5), torch.rand_like(x)], [x]))
    torch.manual_seed(3)
    wanted = [torch.nn.functional.dropout(x + 1, 0.5), torch.rand_like(x)]
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(run(x), wanted, strict=True))


def test_tensors_are_freed_after_their_last_use() -> None:
    """Otherwise all intermediate tensors of a chain would be alive at its end."""
    alive: list[weakref.ref[Tensor]] = []
    counted: list[int] = []

    def seen(x: Tensor) -> Tensor:
        result = x + 1
        alive.append(weakref.ref(result))
        counted.append(sum(ref() is not None for ref in alive))
        return result

    graph = record(lambda x: [(((x + 1) + 1) + 1) + 1], [torch.zeros(3)])
    for node in graph.graph.nodes:
        if node.target is aten.add.Tensor:
            node.target, node.args = seen, node.args[:1]
    assert replay(graph)(torch.zeros(3))[0].tolist() == [4.0] * 3
    assert max(counted) <= 2
