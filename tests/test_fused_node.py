"""An optimiser's kernel in a recorded graph gives the same result as outside, for one trial and for each of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import EXACT
from contract import advance, largest_difference, make
from test_stack import assert_rows_are_alone, configurations
from torch import Tensor

from mltricks.functional import foreach
from mltricks.graph.recorder import record
from mltricks.graph.replay import replay
from mltricks.graph.rewrite import reuse_memory, tidy
from mltricks.optim.adam import Adam
from mltricks.optim.adamw import AdamW
from mltricks.optim.fused_node import fused_nodes, in_place_form, update_in_place
from mltricks.optim.sgd import SGD
from mltricks.stack.run import StackedRun, build_all
from mltricks.technique import bind

WIDE = ["data.limit=200", "batch_size=16", "epochs=8", "model=mlp", "model.width=256", *EXACT]


@dataclass(frozen=True)
class AlwaysFused(SGD):
    """SGD that uses its kernel in a stack. (SGD itself does not: its rule is faster there than a kernel per trial.)"""

    fused_from = 0


OPTIMS = {
    "adamw": AdamW(lr=0.01, weight_decay=0.1, no_decay=[], groups=None, beta1=0.9, beta2=0.99, eps=1e-8),
    "adam": Adam(lr=0.01, weight_decay=0.1, no_decay=[], groups=None, beta1=0.8, beta2=0.99, eps=1e-6),
    "momentum": AlwaysFused(lr=0.1, weight_decay=0.01, no_decay=[], groups=None, momentum=0.9, nesterov=False),
    "nesterov": AlwaysFused(lr=0.1, weight_decay=0.01, no_decay=[], groups=None, momentum=0.9, nesterov=True),
    "plain": AlwaysFused(lr=0.1, weight_decay=0.0, no_decay=[], groups=None, momentum=0.0, nesterov=False),
}


def targets(run: StackedRun) -> list[Any]:
    """The operations that the graphs of a stack call, read from the constants of the functions that replay them."""
    return [value for graph in run.step.graphs.values() for value in graph.__defaults__ or ()]


@pytest.mark.parametrize(
    ("optim", "own"),
    [
        ("adamw", [["optim.lr=1e-3"], ["optim.lr=3e-3"], ["optim.lr=1e-2"]]),
        ("adamw", [["optim.weight_decay=0.0", "optim.beta1=0.8"], ["optim.weight_decay=0.3", "optim.eps=1e-5"]]),
        ("adam", [["seed=0"], ["seed=1"], ["seed=2"]]),
    ],
)
def test_a_stack_of_wide_models_calls_the_kernel_and_equals_the_runs_alone(optim: str, own: list[list[str]]) -> None:
    cfgs = configurations([*WIDE, f"optim={optim}", "scheduler=cosine"], *own)
    assert_rows_are_alone(cfgs, keep=[0])
    stacked = StackedRun(build_all(cfgs))
    stacked.advance(1)
    on_cpu = stacked.state["step"].is_cpu
    assert (update_in_place in targets(stacked)) == on_cpu, "the kernel writes into the stacked state, on the CPU alone"


@pytest.mark.parametrize("shared", [["model.width=8"], ["optim=sgd"]])
def test_a_stack_of_small_models_does_not_call_the_kernel(shared: list[str]) -> None:
    stacked = StackedRun(build_all(configurations([*WIDE, *shared], ["optim.lr=1e-3"], ["optim.lr=1e-2"])))
    stacked.advance(1)
    assert update_in_place not in targets(stacked)


@pytest.mark.parametrize("technique", ["ema", "sam", "[ema,clip_norm,layerwise_lr]"])
def test_techniques_after_the_update_see_its_result(technique: str) -> None:
    assert_rows_are_alone(
        configurations([*WIDE, "optim=adamw", f"technique={technique}"], ["optim.lr=1e-3"], ["optim.lr=4e-3"]), keep=[1]
    )


@pytest.mark.cpu  # this kernel is the CPU's; on CUDA a float16 product rounds differently in a stack
def test_a_step_with_loss_scaling_is_the_same_alone_and_stacked() -> None:
    """Half precision makes rounding differences grow, so the arithmetic of the update has to be the same."""
    shared = [*WIDE, "optim=adamw", "precision=fp16"]
    assert_rows_are_alone(configurations(shared, ["optim.lr=1e-3"], ["optim.lr=2e-3"]), keep=[1], steps=20)


@dataclass(frozen=True)
class Slower(AdamW):
    """A user's optimiser: a tenth of AdamW's step, with AdamW's kernel inherited."""

    def rule(self, grads: list[Tensor], slots: Any, params: list[Tensor], count: Tensor) -> Any:
        return super(Slower, bind(self, {"lr": self.lr * 0.1})).rule(grads, slots, params, count)


def test_a_rule_that_a_user_overrides_is_used_instead_of_the_kernel() -> None:
    settings = {"weight_decay": 0.0, "no_decay": [], "groups": None, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    optim, params = Slower(lr=1.0, **settings), {"w": torch.zeros(5000)}
    grads, opt = {"w": torch.ones(5000)}, optim.init(params)
    with fused_nodes("one"):
        recorded, _ = optim.update(grads, opt, params)
    in_place, _ = optim.update_in_place(grads, opt, {"w": torch.zeros(5000)})
    for found in (recorded, in_place):
        torch.testing.assert_close(found["w"], torch.full((5000,), -0.1))


@pytest.mark.parametrize("optim", ["adamw", "sgd", "muon"])
def test_a_traced_run_equals_the_eager_one(optim: str) -> None:
    eager, traced = (make(f"optim={optim}", "scheduler=cosine", f"engine={name}") for name in ("eager", "traced"))
    assert advance(eager, 25) == pytest.approx(advance(traced, 25), rel=1e-5)
    assert largest_difference(eager.state, traced.state) < 1e-5


def flat_update(optim: Any, num: int) -> Any:
    """An update as a function of flat lists: gradients, parameters, slots, the count and a learning rate."""

    def fn(*tensors: Tensor) -> list[Tensor]:
        grads, params = list(tensors[:num]), list(tensors[num : 2 * num])
        held = iter(tensors[2 * num : -2])
        slots = {slot: [next(held) for _ in range(num)] for slot in optim.slots}
        p, s = bind(optim, {"lr": tensors[-1]}).apply(grads, slots, params, tensors[-2])
        return [*p, *(t for slot in optim.slots for t in s[slot])]

    return fn


def example(optim: Any, trials: int, order: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 16, 3, 3), (8,)]
    lists = [[torch.rand(trials, *s, generator=generator) for s in shapes] for _ in range(2 + len(optim.slots))]
    if order is torch.channels_last:  # gradients in the layout that convolutions return
        lists[0][0] = lists[0][0].permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return [*(t for ts in lists for t in ts), torch.full((trials,), 3.0), torch.linspace(0.001, 0.1, trials)]


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("optim", OPTIMS.values(), ids=OPTIMS)
def test_every_trial_equals_the_kernel_called_for_it_alone(optim: Any, order: torch.memory_format) -> None:
    trials, given = 3, example(optim, 3, order)
    fn = flat_update(optim, 2)
    with fused_nodes("one"):
        stacked = record(lambda *ts: list(torch.vmap(lambda *row: fn(*row))(*ts)), given)
    tidy(stacked)
    copied = replay(stacked)(*given)
    reuse_memory(stacked, donated=range(2, len(given) - 2))
    written = replay(stacked)(*[t.clone() for t in given])
    for k in range(trials):
        row = [t[k].clone() for t in given]
        params, slots = row[2:4], {slot: row[4 + 2 * i : 6 + 2 * i] for i, slot in enumerate(optim.slots)}
        grads = [g.contiguous() for g in row[:2]]
        bind(optim, {"lr": float(row[-1])}).fused(grads, slots, params, row[-2])
        for place, wanted in enumerate([*params, *(t for slot in optim.slots for t in slots[slot])]):
            assert torch.equal(copied[place][k], wanted)
            assert torch.equal(written[place][k], wanted)


def test_a_graph_without_donation_leaves_its_inputs_unchanged() -> None:
    optim, given = OPTIMS["adamw"], example(OPTIMS["adamw"], 2)
    with fused_nodes("one"):
        graph = record(lambda *ts: list(torch.vmap(flat_update(optim, 2))(*ts)), given)
    tidy(graph)
    reuse_memory(graph, donated=[])
    before = [t.clone() for t in given]
    replay(graph)(*given)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert not [n for n in graph.graph.nodes if n.target is update_in_place]


def test_parameters_that_are_read_again_are_copied() -> None:
    optim, given = OPTIMS["momentum"], example(OPTIMS["momentum"], 2)
    fn = flat_update(optim, 2)

    def moved(*ts: Tensor) -> list[Tensor]:
        new = fn(*ts)
        return [*new, new[0] - ts[2]]

    with fused_nodes("one"):
        graph = record(lambda *ts: list(torch.vmap(moved)(*ts)), given)
    tidy(graph)
    reuse_memory(graph, donated=range(2, len(given) - 2))
    found = replay(graph)(*[t.clone() for t in given])
    torch.testing.assert_close(found[-1], found[0] - given[2])
    assert found[-1].abs().max() > 0


def test_the_node_is_recorded_only_if_asked_for() -> None:
    optim, given = OPTIMS["adamw"], [t[0] for t in example(OPTIMS["adamw"], 1)]
    fn = flat_update(optim, 2)
    with foreach.unrolled():
        plain = record(fn, given)
        with fused_nodes("many"):
            small = record(fn, given)
    for graph in (plain, small):
        assert not [n for n in graph.graph.nodes if in_place_form(n.target) is not None]
