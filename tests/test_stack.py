"""Stacks: every member equals the run alone, even if other members leave or share values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from conftest import EXACT
from contract import advance, largest_difference
from torch import Tensor

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.graph.recorder import record
from mltricks.graph.replay import replay
from mltricks.graph.rewrite import peak_bytes, reuse_memory, tidy
from mltricks.stack.run import StackedRun, build_all

aten = torch.ops.aten
SMALL = ["data.limit=400", "batch_size=16", "epochs=4", "optim=sgd", *EXACT]
MLP = [*SMALL, "model=mlp", "model.width=16"]
CONVNET = [*SMALL, "model=convnet", "model.width=4"]


def configurations(shared: Sequence[str], *own: Sequence[str]) -> list[dict]:
    return [plain(mltricks.compose([*shared, *overrides])) for overrides in own]


def rates(num: int, seeds: bool) -> list[list[str]]:
    return [[f"optim.lr={0.005 * (k + 1)}", f"seed={k if seeds else 0}"] for k in range(num)]


def assert_rows_are_alone(cfgs: list[dict], keep: list[int], steps: int = 50, tolerance: float = 1e-5) -> None:
    """Train all members for half of the steps, then only those in ``keep``, and compare each with the run alone."""
    stacked = StackedRun(build_all(cfgs))
    half = steps // 2
    before = stacked.advance(half)["loss"]
    stacked.keep(keep)
    after = stacked.advance(steps - half, half)["loss"]
    assert before.shape == (len(cfgs), half)
    assert after.shape == (len(keep), steps - half)
    for k, member in enumerate(keep):
        alone = build(cfgs[member])
        losses = advance(alone, steps)
        assert [*before[member].tolist(), *after[k].tolist()] == pytest.approx(losses, abs=tolerance)
        assert largest_difference(stacked.row(k), alone.state) < tolerance


@pytest.mark.parametrize("seeds", [True, False])
@pytest.mark.parametrize("shared", [MLP, CONVNET], ids=["mlp", "convnet"])
def test_members_equal_the_runs_alone_before_and_after_others_leave(shared: list[str], seeds: bool) -> None:
    assert_rows_are_alone(configurations(shared, *rates(4, seeds)), keep=[0, 3])


@pytest.mark.parametrize("seeds", [True, False])
def test_random_draws_equal_those_of_the_run_alone(seeds: bool) -> None:
    assert_rows_are_alone(configurations([*CONVNET, "technique=[mixup,dropout]"], *rates(3, seeds)), keep=[1, 2])


def test_batch_norm_statistics_equal_those_of_the_run_alone() -> None:
    shared = [*SMALL, "model=resnet9", "model.width=2", "batch_size=8"]
    assert_rows_are_alone(configurations(shared, *rates(3, True)), keep=[2])


def test_every_kind_of_float_may_differ() -> None:
    own = [
        [f"optim.momentum={0.1 * k}", f"technique.dropout.p={0.1 * k + 0.1}", f"scheduler.warmup_frac={0.2 * k}"]
        for k in range(3)
    ]
    assert_rows_are_alone(configurations([*MLP, "technique=dropout", "scheduler=cosine"], *own), keep=[0, 1])


def test_only_some_trials_may_have_a_schedule() -> None:
    own = [["scheduler.warmup_frac=0"], ["scheduler.warmup_frac=0.5"]]
    assert_rows_are_alone(configurations(MLP, *own), keep=[0, 1], steps=20)


def test_floats_shared_by_the_remaining_members_are_correct() -> None:
    own = [["optim.weight_decay=0.5"], ["optim.weight_decay=0.01", "seed=1"], ["optim.weight_decay=0.01", "seed=2"]]
    assert_rows_are_alone(configurations(MLP, *own), keep=[1, 2], steps=20)


def test_constants_of_a_stack_are_not_reused_from_another_stack() -> None:
    for weight_decay in (0.0, 0.3):
        cfgs = configurations([*MLP, f"optim.weight_decay={weight_decay}"], *rates(2, True))
        assert_rows_are_alone(cfgs, keep=[0, 1], steps=6)


def test_a_float_may_be_typed_as_an_integer() -> None:
    own = [["optim.weight_decay=0", "optim.lr=0.01"], ["optim.weight_decay=0.01", "optim.lr=1"]]
    assert_rows_are_alone(configurations(MLP, *own), keep=[0, 1], steps=10, tolerance=1e-4)


def test_last_batch_of_an_epoch_may_be_smaller() -> None:
    shared = [
        "data.limit=100",
        "data.drop_last=false",
        "batch_size=16",
        "optim=sgd",
        "model=mlp",
        "model.width=8",
        *EXACT,
    ]
    assert_rows_are_alone(configurations(shared, *rates(2, True)), keep=[0, 1], steps=16)


def test_raw_images_are_augmented_before_they_are_normalised() -> None:
    assert_rows_are_alone(configurations([*CONVNET, "augment=standard"], *rates(2, True)), keep=[0, 1], steps=12)


def test_rows_of_members_that_left_are_removed_once_a_quarter_is_idle() -> None:
    stacked = StackedRun(build_all(configurations(MLP, *rates(8, True))))
    stacked.advance(1)
    stacked.keep([0, 1, 2, 3, 5, 6, 7])
    assert stacked.num_trials == 7
    assert len(stacked.state["step"]) == 8
    seventh = stacked.row(6)
    stacked.keep([0, 1, 2, 3, 4, 6])
    assert stacked.num_trials == len(stacked.state["step"]) == 6
    assert largest_difference(stacked.row(5), seventh) == 0.0


def test_a_row_is_a_copy() -> None:
    stacked = StackedRun(build_all(configurations(MLP, *rates(2, True))))
    stacked.advance(1)
    row = stacked.row(0)
    weight = next(iter(row["params"].values())).clone()
    stacked.advance(1, 1)
    assert torch.equal(next(iter(row["params"].values())), weight)


def test_a_diverged_member_does_not_affect_the_others() -> None:
    own = [["optim.lr=0.01"], ["optim.lr=1e30", "seed=1"]]
    assert_rows_are_alone(configurations(MLP, *own), keep=[0], steps=20)


def test_runs_of_the_same_data_load_them_once() -> None:
    first, second, other = build_all(configurations(MLP, [], ["seed=1"], ["data.limit=200"]))
    assert first.data is second.data
    assert first.data is not other.data


def test_two_stacks_of_the_same_structure_are_traced_once() -> None:
    runs: list[list[Run]] = [build_all(configurations(MLP, *rates(2, True))) for _ in range(2)]
    first, second = StackedRun(runs[0]), StackedRun(runs[1])
    first.advance(1)
    assert second.step is first.step
    assert len(second.step.graphs) == 1


@pytest.mark.inductor
@pytest.mark.slow
def test_a_compiled_stack_equals_the_runs_alone() -> None:
    cfgs = configurations([*MLP, "engine=compile"], *rates(2, True))
    stacked = StackedRun(build_all(cfgs))
    losses = stacked.advance(5)["loss"]
    for k, cfg in enumerate(configurations(MLP, *rates(2, True))):
        assert losses[k].tolist() == pytest.approx(advance(build(cfg), 5), abs=1e-5)
        del cfg


def test_tracing_a_stack_imports_no_compiler() -> None:
    """The import of the compiler would take longer than the training of small trials."""
    code = (
        "import sys, mltricks; from mltricks.config.compose import plain\n"
        "from mltricks.stack.run import train_stacked\n"
        "train_stacked([plain(mltricks.compose(['model=mlp', 'max_steps=2', f'seed={s}'])) for s in (0, 1)])\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_a_recorded_graph_gives_the_results_of_the_function() -> None:
    def fn(x: Tensor, w: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            leaf = w.detach().requires_grad_()
            (grad,) = torch.autograd.grad((torch.nn.functional.gelu(x @ leaf) * torch.tensor(2.0)).sum(), [leaf])
        return [grad.detach(), x.split(1)[1].squeeze(0)]

    example = [torch.randn(3, 4), torch.randn(4, 2)]
    graph = record(fn, example)
    other = [torch.randn(3, 4), torch.randn(4, 2)]
    for found, wanted in zip(graph(*other), fn(*other), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("fn", [lambda x: [x * x.sum().item()], lambda x: [x[x > 0]]])
def test_functions_that_read_a_tensors_content_are_refused(fn: object) -> None:
    with pytest.raises(ValueError, match="reads the content of a tensor in tests/test_stack"):
        record(fn, [torch.randn(5)])  # type: ignore[arg-type]


def test_memory_is_reused_after_its_last_read() -> None:
    def fn(p: Tensor, m: Tensor, g: Tensor) -> list[Tensor]:
        m = m * 0.9 + g
        q = p - 0.1 * m
        return [q, m, (p * g).sum(), g]

    def make() -> list[Tensor]:
        torch.manual_seed(0)
        return [torch.randn(50) for _ in range(3)]

    graph = record(fn, make())
    tidy(graph)
    before = peak_bytes(graph)
    reuse_memory(graph, donated=[0, 1])
    given = make()
    run = replay(graph)
    for found, wanted in zip(run(*given), fn(*make()), strict=True):
        torch.testing.assert_close(found, wanted)
    names = [str(node.target) for node in graph.graph.nodes]
    assert "aten.mul_.Tensor" in names
    assert peak_bytes(graph) < before
    assert torch.equal(given[2], make()[2]), "inputs that were not donated are unchanged"
    assert run(*make())[3].data_ptr() != given[2].data_ptr()


def test_tidy_removes_operations_without_effect() -> None:
    def fn(x: Tensor) -> list[Tensor]:
        return [aten.mul.Scalar(x.transpose(0, 1).transpose(0, 1).expand(3, 2), 1) + x.exp() + x.exp()]

    x = torch.randn(3, 2)
    graph = record(fn, [x])
    tidy(graph)
    assert [n.target for n in graph.graph.nodes if n.op == "call_function"].count(aten.exp.default) == 1
    assert not [n for n in graph.graph.nodes if n.target in (aten.transpose.int, aten.expand.default, aten.mul.Scalar)]
    torch.testing.assert_close(replay(graph)(x)[0], fn(x)[0])


def test_additions_to_a_product_become_baddbmm() -> None:
    def fn(m: Tensor, x: Tensor, y: Tensor, b: Tensor) -> list[Tensor]:
        return [torch.bmm(x, y).add(m, alpha=0.9), b + torch.bmm(y, x)]

    example = [torch.randn(shape) for shape in ((2, 3, 3), (2, 3, 4), (2, 4, 3), (2, 1, 4))]
    graph = record(fn, example)
    tidy(graph)
    assert [n.target for n in graph.graph.nodes if n.op == "call_function"] == [aten.baddbmm.default] * 2
    reuse_memory(graph, donated=[0])
    wanted = fn(*example)
    for found, value in zip(replay(graph)(*example), wanted, strict=True):
        torch.testing.assert_close(found, value)
    torch.testing.assert_close(example[0], wanted[0])
