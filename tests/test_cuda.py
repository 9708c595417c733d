"""Tests that need a GPU; ``pytest --device cuda`` runs them, with most of the suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contract import advance, assert_same, largest_difference, make

import mltricks
from mltricks import checkpoint
from mltricks.process.device import set_arithmetic
from mltricks.stack.run import StackedRun
from mltricks.summary import Summary

pytestmark = pytest.mark.gpu
MODELS = ["mlp", "convnet", "resnet9"]


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
@pytest.mark.parametrize("model", MODELS)
def test_deterministic_runs_repeat_and_resume_bit_for_bit(model: str, optim: str, tmp_path: Path) -> None:
    overrides = [f"model={model}", f"optim={optim}", "augment=standard"]
    whole, again, first, second = (make(*overrides) for _ in range(4))
    assert advance(whole, 20) == advance(again, 20)
    assert_same(whole.state, again.state)
    advance(first, 7)
    checkpoint.save(tmp_path / "last.pt", first.state, first.cfg)
    saved = checkpoint.load(tmp_path / "last.pt")["state"]
    second.state = checkpoint.restore(saved, second.state, tmp_path / "last.pt")
    advance(second, 13, 7)
    assert_same(whole.state, second.state)


@pytest.mark.parametrize("model", MODELS)
def test_deterministic_engines_agree(model: str) -> None:
    overrides = [f"model={model}", "optim=sgd", "optim.lr=0.01", "technique=[mixup,ema]"]
    eager, traced, graph = (make(*overrides, f"engine={engine}") for engine in ("eager", "traced", "graph"))
    losses = advance(eager, 10)
    assert advance(traced, 10) == pytest.approx(losses, rel=1e-5)
    assert advance(graph, 10) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_by_default_results_agree_to_the_precision_of_tf32(model: str) -> None:
    """By default kernels are chosen by timing, and factors are rounded to 10 bits: a relative error of 5e-4 each."""
    overrides = [f"model={model}", "optim=sgd", "optim.lr=0.01", "deterministic=false"]
    losses = advance(make(*overrides), 10)
    assert advance(make(*overrides), 10) == pytest.approx(losses, rel=1e-2)
    assert advance(make(*overrides, "engine=traced"), 10) == pytest.approx(losses, rel=1e-2)
    stacked = StackedRun([make(*overrides), make(*overrides, "seed=1")])
    assert stacked.advance(10)["loss"][0].tolist() == pytest.approx(losses, rel=1e-2)


def test_a_row_of_a_stack_equals_the_run_alone() -> None:
    overrides = ["model=convnet", "optim=sgd", "optim.lr=0.01"]
    stacked = StackedRun([make(*overrides), make(*overrides, "seed=1")])
    stacked.advance(20)
    alone = make(*overrides)
    advance(alone, 20)
    assert largest_difference(stacked.row(0), alone.state) < 1e-5


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_rounds_factors_to_10_bits(tf32: bool) -> None:
    """1 + 2^-12 is a float32, and 1 when rounded to TF32."""
    try:
        set_arithmetic(deterministic=True, tf32=tf32)
        x = torch.full((512, 512), 1 + 2.0**-12, device="cuda")
        product = x @ torch.eye(512, device="cuda")
        assert torch.equal(product, torch.ones_like(x) if tf32 else x)
    finally:
        set_arithmetic(deterministic=False, tf32="auto")


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_summary_says_whether_tf32_was_allowed(deterministic: bool, train_digits: Callable[..., Summary]) -> None:
    assert train_digits("max_steps=2", f"deterministic={str(deterministic).lower()}").tf32 is not deterministic


def test_a_run_trained_on_the_gpu_predicts_on_the_cpu(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    train_digits("max_steps=5")
    x = torch.randint(256, (8, 8, 8, 1), dtype=torch.uint8)
    here, there = (mltricks.load(tmp_path / "run", device=device) for device in ("cuda", "cpu"))
    torch.testing.assert_close(here.predict(x), there.predict(x), rtol=1e-4, atol=1e-5)
