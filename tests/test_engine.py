"""Engines: the same step gives the same results under each, and an engine that cannot run is refused."""

from __future__ import annotations

import os

import pytest
import torch
from conftest import EXACT
from contract import advance, largest_difference, make

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.graph.randomness import cut
from mltricks.graph.tracing import trace
from mltricks.stack.run import StackedRun, train_stacked
from mltricks.stack.structure import structure


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
def test_traced_state_equals_eager(optim: str) -> None:
    eager = make(f"optim={optim}", "scheduler=cosine")
    traced = make(f"optim={optim}", "scheduler=cosine", "engine=traced")
    assert advance(eager, 25) == pytest.approx(advance(traced, 25), rel=1e-4)
    assert largest_difference(eager.state, traced.state) < 1e-4


@pytest.mark.inductor
@pytest.mark.slow
def test_compiled_and_eager_draw_the_same_numbers() -> None:
    eager, compiled = make("technique=[mixup,ema]"), make("technique=[mixup,ema]", "engine=compile")
    assert advance(eager, 5) == pytest.approx(advance(compiled, 5), rel=1e-5)


def test_tracing_does_not_use_up_random_numbers() -> None:
    first, second = make("technique=mixup", "engine=traced"), make("technique=mixup", "engine=traced")
    fresh = advance(first, 2)
    advance(second, 1)
    again = make("technique=mixup", "engine=traced")
    again.step = second.step
    assert advance(again, 2) == fresh


def test_a_new_shape_is_traced_again() -> None:
    run = make("engine=traced", "data.limit=40", "data.drop_last=false")
    losses = advance(run, 3)
    assert len(run.step.graphs) == 2
    assert losses == pytest.approx(advance(make("data.limit=40", "data.drop_last=false"), 3), rel=1e-5)


def test_cuda_graph_is_refused_without_cuda() -> None:
    with pytest.raises(ValueError, match="engine=traced"):
        make("engine=graph", "device=cpu")


@pytest.mark.gpu
def test_cuda_graph_equals_eager() -> None:
    eager = make("technique=[mixup,ema]", "optim=sgd")
    graph = make("technique=[mixup,ema]", "optim=sgd", "engine=graph")
    assert advance(eager, 30) == pytest.approx(advance(graph, 30), rel=1e-4)


def test_the_cut_removes_every_random_operation_from_the_graph() -> None:
    run = make("technique=mixup", "engine=traced")
    state, batch, hyper = run.state, next(run.source.stream(0)), run.hypers.at(0)
    graph, _ = trace(run.step.step, state, batch, hyper, functional=True)
    draw, rest, count = cut(graph)
    assert count == 2, "the weight of mixup is made of a gamma and a uniform draw"
    assert len(draw.graph.nodes) < len(graph.graph.nodes) / 4
    assert not [n for n in rest.graph.nodes if "gamma" in str(n.target)]


def test_stack_refuses_different_structure() -> None:
    with pytest.raises(ValueError, match=r"model\.width is 4 in the first and 5 in number 1"):
        StackedRun([make(), make("model.width=5")])


def test_structure_ignores_floats_and_the_seed() -> None:
    sgd = {"_target_": "mltricks.optim.sgd.SGD", "lr": 0.1, "weight_decay": 0, "nesterov": True}
    shared = {"optim._target_": "mltricks.optim.sgd.SGD", "optim.nesterov": True}
    assert structure({"seed": 1, "optim": sgd}) == shared
    assert structure({"seed": 2, "optim": {**sgd, "lr": {"schedule": "cosine", "start": 1, "end": 0.1}}}) == {
        **shared,
        "optim.lr.schedule": "cosine",
    }


def test_train_stacked_equals_training_alone() -> None:
    shared = [
        "data.limit=320",
        "batch_size=16",
        "model.width=4",
        "epochs=2",
        "technique=mixup",
        "scheduler=cosine",
        *EXACT,
    ]
    cfgs = [plain(mltricks.compose([*shared, f"seed={seed}", f"optim.lr={lr}"])) for seed, lr in ((0, 1e-3), (1, 1e-2))]
    for cfg, trial in zip(cfgs, train_stacked(cfgs), strict=True):
        alone = build(cfg)
        losses = advance(alone, alone.total_steps)
        assert trial.losses.tolist() == pytest.approx(losses, rel=1e-4)
        assert 0 < trial.val["accuracy"] <= 1


def test_stack_keeps_batch_norm_statistics_apart() -> None:
    overrides = [["model=resnet9", f"optim.lr={lr}", "optim=sgd"] for lr in (0.01, 0.001)]
    stacked = StackedRun([make(*o) for o in overrides])
    stacked.advance(3)
    rows = []
    for k, o in enumerate(overrides):
        alone = make(*o)
        advance(alone, 3)
        rows.append({n: b for n, b in stacked.row(k)["buffers"].items() if b.is_floating_point()})
        for name, value in rows[k].items():
            assert torch.allclose(value, alone.state["buffers"][name], atol=1e-5)
    assert any(not torch.equal(rows[0][name], rows[1][name]) for name in rows[0])


def test_deterministic_sets_torchs_flags() -> None:
    try:
        make("deterministic=true")
        assert torch.are_deterministic_algorithms_enabled()
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        make("deterministic=false")
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, True)


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [
        (["deterministic=false"], True),
        (["deterministic=false", "precision=bf16"], True),
        (["deterministic=true"], False),
        (["deterministic=false", "precision.tf32=false"], False),
        (["deterministic=true", "precision.tf32=true"], True),
    ],
)
def test_tf32_is_off_if_set_or_if_the_run_is_deterministic(overrides: list[str], allowed: bool) -> None:
    try:
        make(*overrides)
        for kind in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
            assert (kind.fp32_precision == "tf32") == allowed
    finally:
        make("deterministic=false")
