"""The contract tests on other inputs, objectives and models: tokens, vectors, masks, pairs, dropout, layouts, ties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contract import (
    KINDS,
    advance,
    assert_resumes_exactly,
    chosen,
    largest_difference,
    make,
    needs,
    reason_against,
    stacked_as,
    statement,
    techniques,
    untraced,
)
from statements import Statement

from mltricks.stack.run import StackedRun

HERE = Path(__file__).parent
CROSSED_A_RUN = 30
DRAWING = {"DropoutAfterConvolution", "DropoutInChannelsLast", "NormsOfPlainBackgrounds"}
"""Models that draw random numbers themselves."""


def sensible(name: str) -> bool:
    """Whether a technique needs no model of its own and no additional data."""
    return not any(override.startswith(("model=", "data.")) for override in statement(name).needs)


CROSSED = [(kind, name) for kind in KINDS for name in techniques() if sensible(name)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "crossed" in metafunc.fixturenames:
        metafunc.parametrize("crossed", chosen(CROSSED, CROSSED_A_RUN, metafunc.config), ids="+".join)


@pytest.mark.allpairs
def test_a_technique_keeps_the_contract_or_is_refused(
    crossed: tuple[str, str], teacher: Callable[..., Path], tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    name, kind = crossed[1], [override.format(here=HERE) for override in KINDS[crossed[0]]]
    shared = [*kind, stacked_as((name,)), *needs((name,), teacher, kind), "optim=sgd"]
    overrides = [*shared, "optim.lr=0.01"]
    refused = reason_against(overrides)
    if refused:
        assert f"technique={name}" in refused or f"technique.{name}" in refused
        record_property("refused", refused)
        return
    losses = assert_resumes_exactly(overrides, 2, 4, tmp_path / "last.pt")
    if not untraced(name):
        assert losses == pytest.approx(advance(make(*overrides, "engine=traced"), 4), rel=1e-4)
        assert_rows_are_alone([[*shared, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))])
    if crossed[0] not in DRAWING:  # the draws of a technique change the draws of the model
        assert_switched_off(statement(name), kind, overrides)


def assert_rows_are_alone(members: list[list[str]]) -> None:
    stacked = StackedRun([make(*overrides) for overrides in members])
    losses = stacked.advance(3)["loss"]
    for k, overrides in enumerate(members):
        alone = make(*overrides)
        assert losses[k].tolist() == pytest.approx(advance(alone, 3), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


def assert_switched_off(stated: Statement, kind: list[str], overrides: list[str]) -> None:
    if stated.off is not None:
        shared = [need for need in stated.needs if not need.startswith("technique.")]
        off, baseline = make(*overrides, *stated.off), make(*kind, *shared, "optim=sgd", "optim.lr=0.01")
        assert advance(off, 3) == advance(baseline, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_learns(kind: str) -> None:
    run = make(*(override.format(here=HERE) for override in KINDS[kind]))
    losses = torch.tensor(advance(run, 40))
    assert losses[-10:].mean() < losses[:10].mean()


def test_a_stack_may_have_another_memory_layout_than_one_trial() -> None:
    """A reshape may be a view of one trial's convolution, and a copy for K trials."""
    shared = [*KINDS["mask"], "optim=sgd"]
    assert_rows_are_alone([[*shared, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))])
