"""Norms of layers: they equal a computation by hand, and measuring changes nothing of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY, Outcome

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.observers.files import read_records
from mltricks.observers.layers import MAX_GROUPS, Layers, grouped
from mltricks.state import reseed_step
from mltricks.summary import Summary
from mltricks.train import advance


def measured(tmp_path: Path, *overrides: str, steps: int = 1, also: bool = True) -> tuple[list[dict], list[dict]]:
    """Records of ``Layers``, and the parameters before and after each update, of a run of a few updates."""
    run = build(plain(mltricks.compose([*TINY, *overrides])))
    layers = Layers()
    if also:
        layers.start(run, tmp_path, 0)
    batches, params = run.batches(0), [{n: p.clone() for n, p in run.state["params"].items()}]
    for step in range(steps):
        batch = next(batches)
        reseed_step(run.cfg["seed"], step)
        advance(run, batch, step)
        params.append({n: p.clone() for n, p in run.state["params"].items()})
        if also:
            layers.step(step + 1)
    if also:
        layers.record({"split": "train", "epoch": 1})
    return read_records(tmp_path / "layers.jsonl"), params


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_the_numbers_equal_those_by_hand(tmp_path: Path, engine: str) -> None:
    """With plain gradient descent, the update is the learning rate times the gradient on the first batch."""
    options = ("optim=sgd", "optim.momentum=0", "optim.weight_decay=0", "optim.lr=0.1", f"engine={engine}")
    records, (before, after) = measured(tmp_path, *options)
    assert [r["step"] for r in records] == [1]
    for name, row in records[0]["groups"].items():
        members = [n for n in before if n.startswith(f"{name}.")]
        norm = lambda tensors: float(torch.cat([t.flatten() for t in tensors]).norm())  # noqa: E731
        change = norm([after[n] - before[n] for n in members])
        assert row["weight"] == pytest.approx(norm([before[n] for n in members]), rel=1e-4)
        assert row["ratio"] == pytest.approx(change / row["weight"], rel=1e-3)
        assert row["gradient"] == pytest.approx(change / 0.1, rel=1e-3)


@pytest.mark.parametrize(
    "overrides", [["technique=[mixup,ema]"], ["regularizer=dropout"], ["engine=traced", "technique=[sam]"]]
)
def test_measuring_changes_no_bit_of_a_run(tmp_path: Path, overrides: list[str]) -> None:
    records, with_it = measured(tmp_path, *overrides, steps=3)
    _, without = measured(tmp_path, *overrides, steps=3, also=False)
    assert len(records) == 1
    for mine, theirs in zip(with_it, without, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_run_and_a_resumed_one_write_the_same_norms(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    options = ("plots=true", "epochs=12", "log_every=7")
    train_digits(*options, folder=tmp_path / "whole")
    whole = read_records(tmp_path / "whole" / "layers.jsonl")
    assert [r["step"] for r in whole] == [1, 50, 100, 120]
    train_digits(*options, "max_steps=60", folder=tmp_path / "cut")
    train_digits(*options, "max_steps=120", folder=tmp_path / "cut", resume=True)
    again = {r["step"]: r for r in read_records(tmp_path / "cut" / "layers.jsonl")}
    assert list(again) == [1, 50, 60, 100, 120]
    assert [again[r["step"]]["groups"] for r in whole] == [r["groups"] for r in whole]


def test_weights_are_the_same_with_and_without_the_report(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    plain_, drawn = (
        train_digits(f"plots={plots}", "technique=[mixup]", folder=tmp_path / plots) for plots in ("false", "true")
    )
    assert plain_.test == drawn.test
    assert (tmp_path / "true" / "layers.jsonl").is_file()
    assert not (tmp_path / "false" / "layers.jsonl").exists()


def test_a_failing_measurement_does_not_fail_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = build(plain(mltricks.compose([*TINY])))
    layers = Layers()
    layers.start(run, tmp_path, 0)
    layers.groups = {"missing": ["no such parameter"]}
    layers.step(1)
    layers.step(49)
    assert "layers could not be measured (KeyError" in capsys.readouterr().err


def test_groups_are_modules_as_deep_as_there_is_room_for() -> None:
    few = [f"{block}.{i}.weight" for block in ("stem", "head") for i in range(3)]
    assert list(grouped(few)) == [name.removesuffix(".weight") for name in few]
    many = [f"blocks.{i}.{part}.weight" for i in range(6) for part in ("attention", "mlp")]
    assert list(grouped(many)) == [f"blocks.{i}" for i in range(6)]
    flat = [f"layer{i}.weight" for i in range(30)]
    groups = grouped(flat)
    assert len(groups) <= MAX_GROUPS
    assert [name for names in groups.values() for name in names] == flat
    assert next(iter(groups)) == "layer0 to layer3"
    assert grouped(["weight", "bias"]) == {"weight": ["weight"], "bias": ["bias"]}


def test_a_stack_measures_nothing(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    """Members of a stack have no state of their own between records, and the page leaves the section out."""
    sweep = tmp_path / "sweep"
    done = run_cli("-m", *TINY, "plots=true", "max_steps=3", "optim.lr=1e-3,1e-2", f"hydra.sweep.dir={sweep}")
    assert done.status == 0, done.err
    assert "could not" not in done.err
    assert all((sweep / str(i) / "report.html").is_file() for i in range(2))
