"""A recorded graph gives the results of the function, and rewriting the graph does not change them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import invalidate_caches
from pathlib import Path

import pytest
import torch
from conftest import EXACT
from contract import advance
from test_stack import assert_rows_are_alone, configurations
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from mltricks.build import build
from mltricks.graph.recorder import record
from mltricks.graph.replay import replay
from mltricks.graph.rewrite import reuse_memory, tidy
from mltricks.stack.run import train_stacked


def many_constants(x: Tensor) -> list[Tensor]:
    for factor in (1.0, 0.5, 2.0, 3.0, 5.0, 7.0):
        x = x * torch.tensor(factor)  # each tensor is freed before the next is created
    return [x]


def writes_into_a_constant(x: Tensor) -> list[Tensor]:
    total = torch.tensor([1.0, 2.0, 3.0])
    total += x.sum()
    return [total, total * x]


def writes_into_a_view(x: Tensor) -> list[Tensor]:
    y = x.clone()
    y[1:].mul_(3.0)
    y.view(-1)[0] = 9.0
    return [y, y[:2]]


def differentiates(x: Tensor) -> list[Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        loss = torch.nn.functional.gelu(leaf * torch.tensor(0.3)).square().sum()
        return [*torch.autograd.grad(loss, [leaf]), loss.detach()]


FUNCTIONS = [many_constants, writes_into_a_constant, writes_into_a_view, differentiates]


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_a_recorded_graph_equals_that_of_make_fx(fn: Callable[[Tensor], list[Tensor]]) -> None:
    example, other = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.25, 4.0, -1.0])
    ours = record(fn, [example.clone()])
    theirs = make_fx(lambda x: fn(x))(example.clone())
    for x in (example, other, example):  # a second call: values written by the first must not remain
        expected = fn(x.clone())
        for run in (ours, theirs, replay(ours), replay(theirs)):
            assert all(torch.equal(a, b) for a, b in zip(run(x.clone()), expected, strict=True))


@pytest.mark.parametrize("fn", [many_constants, differentiates])
def test_rewriting_changes_nothing(fn: Callable[[Tensor], list[Tensor]]) -> None:
    example, other = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.25, 4.0, -1.0])
    graph = record(torch.func.functionalize(record(fn, [example.clone()])), [example.clone()])
    tidy(graph)
    reuse_memory(graph, donated=[0])
    for x in (example, other):
        assert all(torch.equal(a, b) for a, b in zip(replay(graph)(x.clone()), fn(x.clone()), strict=True))


def test_equal_results_do_not_share_memory() -> None:
    """The next step may write into one of them, which must not change the other."""
    graph = record(lambda x: [x.expand(3) * 0.0, x.expand(3) * 0.0, x + 1.0], [torch.ones(1)])
    tidy(graph)
    reuse_memory(graph, donated=[0])
    first, second, _ = replay(graph)(torch.ones(1))
    first += 1.0
    assert second.tolist() == [0.0, 0.0, 0.0]


def test_a_stack_with_many_constants_equals_the_runs_alone() -> None:
    """With a threshold of 0, every unlabelled sample counts from the first step on."""
    shared = ["data.limit=100", "batch_size=16", "epochs=4", "optim=sgd", "model=convnet", "model.width=4", *EXACT]
    shared += ["technique=[fixmatch]", "data.unlabeled_ratio=2", "technique.fixmatch.threshold=0.0"]
    assert_rows_are_alone(configurations(shared, ["seed=0"], ["seed=1"]), keep=[0, 1], steps=6)


def test_a_class_that_is_defined_again_is_traced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook where a class is defined again: the same name, but another model."""
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ["data.limit=100", "epochs=1", "model=custom", "model._target_=mine_again.Net", "allow_modules=[mine_again]"]
    losses = []
    for scale in (1.0, 3.0):
        (tmp_path / "mine_again.py").write_text(
            "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_outputs):\n"
            "        super().__init__(nn.Flatten(), nn.Linear(64, num_outputs))\n\n"
            f"    def forward(self, x):\n        return {scale} * super().forward(x)\n"
        )
        monkeypatch.delitem(sys.modules, "mine_again", raising=False)
        invalidate_caches()
        cfgs = configurations(own, ["seed=0"], ["seed=1"])
        losses.append([trial.losses[0].item() for trial in train_stacked(cfgs)])
        alone = build(cfgs[0])
        assert losses[-1][0] == pytest.approx(advance(alone, 1)[0], abs=1e-6)
    assert losses[0] != losses[1]
