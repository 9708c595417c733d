"""What holds for every technique, found by its YAML: it learns, resumes, traces, stacks, and can be switched off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract import NEEDS, OFF, advance, assert_same, largest_difference, make, needs, pairs, techniques
from torch.utils._python_dispatch import TorchDispatchMode

import mltricks
from mltricks import checkpoint
from mltricks.stack.run import StackedRun

STEPS_PER_EPOCH = 20


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short run, for distillation."""
    folder = tmp_path_factory.mktemp("teacher")
    overrides = ["data.limit=320", "batch_size=16", "model.width=4", "epochs=1", "plots=false", "progress=none"]
    mltricks.train(mltricks.compose(overrides), folder)
    return folder


def stacked_as(names: tuple[str, ...]) -> str:
    return f"technique=[{','.join(names)}]"


@pytest.mark.parametrize("name", techniques())
def test_loss_falls(name: str, teacher: Path) -> None:
    run = make(stacked_as((name,)), *needs((name,), teacher))
    losses = advance(run, 60)
    assert sum(losses[-10:]) < sum(losses[:10])


def assert_resumes_exactly(names: tuple[str, ...], teacher: Path, tmp_path: Path, stop: int, total: int) -> None:
    overrides = [stacked_as(names), *needs(names, teacher), "optim=sgd", "optim.lr=0.01"]
    whole = make(*overrides)
    advance(whole, total)
    first = make(*overrides)
    advance(first, stop)
    checkpoint.save(tmp_path / "last.pt", first.state, first.cfg)
    second = make(*overrides)
    saved = checkpoint.load(tmp_path / "last.pt")["state"]
    second.state = checkpoint.restore(saved, second.state, tmp_path / "last.pt")
    advance(second, total - stop, start=stop)
    assert_same(whole.state, second.state)


@pytest.mark.parametrize("stop", [3, STEPS_PER_EPOCH], ids=["within an epoch", "between epochs"])
@pytest.mark.parametrize("name", techniques())
def test_resumed_run_is_the_uninterrupted_one(name: str, stop: int, teacher: Path, tmp_path: Path) -> None:
    assert_resumes_exactly((name,), teacher, tmp_path, stop, stop + 4)


@pytest.mark.parametrize("names", pairs(12), ids="+".join)
def test_pairs_resume_and_trace(names: tuple[str, ...], teacher: Path, tmp_path: Path) -> None:
    overrides = [stacked_as(names), *needs(names, teacher)]
    eager = make(*overrides)
    assert_resumes_exactly(names, teacher, tmp_path, 3, 6)
    traced = make(*overrides, "engine=traced")
    assert advance(eager, 4) == pytest.approx(advance(traced, 4), rel=1e-4)


@pytest.mark.parametrize("name", techniques())
def test_traced_equals_eager(name: str, teacher: Path) -> None:
    overrides = [stacked_as((name,)), *needs((name,), teacher), "optim=sgd", "optim.lr=0.01"]
    eager, traced = make(*overrides), make(*overrides, "engine=traced")
    assert advance(eager, 5) == pytest.approx(advance(traced, 5), rel=1e-5)
    assert largest_difference(eager.state, traced.state) < 1e-5


@pytest.mark.parametrize("name", techniques())
def test_row_of_a_stack_is_the_run_alone(name: str, teacher: Path) -> None:
    shared = [stacked_as((name,)), *needs((name,), teacher), "optim=sgd"]
    overrides = [[*shared, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))]
    stacked = StackedRun([make(*o) for o in overrides])
    losses = stacked.advance(5)["loss"]
    for k, o in enumerate(overrides):
        alone = make(*o)
        assert losses[k].tolist() == pytest.approx(advance(alone, 5), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


class Watch(TorchDispatchMode):
    """Fails where an operation makes the host wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read back inside the step"
        assert func not in (torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default), (
            "a shape depends on data"
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", techniques())
def test_step_never_waits_for_the_device(name: str, teacher: Path) -> None:
    run = make(stacked_as((name,)), *needs((name,), teacher))
    batch, hyper = next(run.source.stream(0)), run.hypers.at(0)
    with Watch():
        _, metrics = run.step(run.state, batch, hyper)
    assert torch.isfinite(metrics["loss"])


@pytest.mark.parametrize("name", sorted(OFF.keys() & set(techniques())))
def test_switched_off_it_changes_nothing(name: str, teacher: Path) -> None:
    shared = [o for o in NEEDS.get(name, []) if not o.startswith("technique")]
    off = make(stacked_as((name,)), *needs((name,), teacher), *OFF[name])
    baseline = make(*shared)
    assert advance(off, 6) == advance(baseline, 6)
    for key in ("params", "opt"):
        assert_same(off.state[key], baseline.state[key])
