"""The probe, which measures whether stacking is faster: its refusals and its measurements."""

from __future__ import annotations

import pytest

import mltricks
from mltricks.config.compose import plain
from mltricks.launch import probe as module
from mltricks.launch.probe import blend, evenly, fusable, probe
from mltricks.process.device import choose_device
from mltricks.stack.run import StackedRun, build_all

MLP = ["model=mlp", "model.width=8", "batch_size=16", "optim=sgd", "data.limit=160"]


def trials(shared: list[str], *own: list[str]) -> list[dict]:
    return [plain(mltricks.compose([*shared, *overrides])) for overrides in own]


@pytest.mark.parametrize(
    ("shared", "own", "reason"),
    [
        ([], [[]], "one trial"),
        ([], [["model.width=4"], ["model.width=5"]], r"model\.width differs"),
        (["optim=torch"], [["seed=0"], ["seed=1"]], "optim=torch cannot be traced"),
        (["job=list"], [["seed=0"], ["seed=1"]], "job=train"),
    ],
)
def test_trials_that_cannot_be_stacked_are_refused_with_the_reason(
    shared: list[str], own: list[list[str]], reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(fusable(trials(shared, *own)))
    found = probe(trials(shared, *own))
    assert not found.fuse
    assert found.stack_size == 1


def test_floats_and_seeds_can_be_stacked() -> None:
    assert fusable(trials(MLP, ["seed=0"], ["seed=1", "optim.lr=0.5"])) is None


def test_few_steps_are_not_worth_tracing() -> None:
    found = probe(trials([*MLP, "max_steps=3"], ["seed=0"], ["seed=1"]))
    assert not found.fuse
    assert "one after another" in found.reason
    assert found.alone_s > 0


def test_many_tiny_trials_are_stacked_and_the_stack_is_that_of_the_sweep() -> None:
    cfgs = trials([*MLP, "epochs=2000"], *[[f"seed={k}", f"optim.lr={0.01 + k / 1000}"] for k in range(16)])
    found = probe(cfgs)
    assert found.fuse, found.reason
    assert 2 <= found.stack_size <= 16
    assert "in a stack" in found.reason
    stacked = StackedRun(build_all(cfgs[: found.stack_size]))
    assert stacked.step.graphs, "the graph that the probe traced is reused"


def test_slow_steps_keep_the_device_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.SLOW_S, choose_device("auto").type, 1e-9)
    found = probe(trials([*MLP, "epochs=2000"], ["seed=0"], ["seed=1"]))
    assert not found.fuse
    assert "keeps the device busy" in found.reason


def test_memory_bounds_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    found = probe(trials([*MLP, "epochs=2000"], ["seed=0"], ["seed=1"]))
    assert not found.fuse
    assert "memory" in found.reason


def test_the_blend_takes_a_differing_value_for_every_key_in_which_trials_differ() -> None:
    mixed = blend([{"a": 1.0, "b": {"c": 2.0, "d": 3.0}}, {"a": 1.0, "b": {"c": 2.0, "d": 4.0}}])
    assert mixed == {"a": 1.0, "b": {"c": 2.0, "d": 4.0}}


def test_stacks_have_nearly_equal_sizes() -> None:
    assert [evenly(n, 64) for n in (2, 64, 65, 130)] == [2, 64, 33, 44]
