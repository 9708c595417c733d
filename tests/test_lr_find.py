"""job=lr_find: curves with a known answer, a quadratic, and agreement with the ordinary step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome
from torch import nn

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.probes.lr_find import lr_find, read, record, rising_run, smooth
from mltricks.state import reseed_step

SMALL = ("data.limit=320", "model=mlp", "model.width=16")


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    lr_find(mltricks.compose(["job=lr_find", *overrides]), folder, list(overrides), "MULTIRUN")
    return json.loads((folder / "lr_find.json").read_text())


def geometric(low: float, high: float, num: int) -> list[float]:
    return [low * (high / low) ** (i / (num - 1)) for i in range(num)]


def test_a_curve_with_a_known_minimum() -> None:
    rates = geometric(1e-6, 1.0, 121)
    losses = [2.0 + (math.log10(r / 1e-2)) ** 2 / 36 for r in rates]
    found = read(rates, losses, 0.0)
    assert found.breaks == pytest.approx(1e-2, rel=0.01)
    assert found.tenth == pytest.approx(1e-3, rel=0.01)
    assert found.starts <= found.steepest < found.breaks
    assert found.steepest == pytest.approx(found.starts, rel=0.2), "a parabola is steepest where its fall begins"
    assert found.suggestion == min(found.steepest, found.tenth)


def test_a_sigmoid_is_steepest_in_its_middle() -> None:
    rates = geometric(1e-6, 1.0, 121)
    losses = [2.0 - 1.0 / (1.0 + math.exp(-6 * math.log10(r / 1e-3))) for r in rates]
    found = read(rates, losses, 0.01)
    assert found.steepest == pytest.approx(1e-3, rel=0.15)
    assert 1e-4 < found.starts < 1e-3
    assert found.moved


def test_a_flat_noisy_curve_gives_no_suggestion() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=100)
        found = read(geometric(1e-6, 1.0, 100), (2.3 + 0.1 * noise).tolist(), 0.03)
        assert not found.moved
        assert found.suggestion is None


def test_smoothing_keeps_lines_and_does_not_lag() -> None:
    line = [float(i) for i in range(50)]
    assert smooth(line, 2.0)[10:40] == pytest.approx(line[10:40])
    bump = [math.exp(-(((i - 25) / 5) ** 2)) for i in range(50)]
    assert int(np.argmax(smooth(bump, 2.0))) == 25


class One(nn.Module):
    """A single weight: the loss is (w - y)^2 for inputs of one."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w.expand(len(x), 1)


def fives() -> object:
    return [(np.random.default_rng(i).normal(size=2).astype(np.float32), 5.0) for i in range(100)]


def test_on_a_quadratic_the_losses_are_those_of_the_formula() -> None:
    """For SGD without momentum, w - 5 is multiplied by 1 - 2 lr at every update, so it grows if lr > 1."""
    own = ["data=custom", f"data._target_={__name__}.fives", "model=custom", f"model._target_={__name__}.One"]
    sgd = ["objective=regress", "optim=sgd", "optim.momentum=0", "batch_size=10", f"allow_modules=[{__name__}]"]
    cfg = plain(mltricks.compose(["job=lr_find", *own, *sgd, "job.num_steps=60", "job.low=1e-3", "job.high=10"]))
    rates, losses = record(rising_run(cfg, cfg["job"]), 60, 2.0)
    assert rates == pytest.approx(geometric(1e-3, 10.0, 60)[: len(rates)])
    error, expected = -5.0, []
    for rate in rates:
        expected.append(error**2)
        error *= 1 - 2 * rate
    exact = next(i for i, loss in enumerate(expected) if loss < 1e-5)  # from there on float32 rounds 5 - w
    assert exact >= 40
    assert losses[:exact] == pytest.approx(expected[:exact], rel=1e-3)
    assert len(losses) < 60, "the loss diverges at rates above 1"
    assert 0.1 < read(rates, losses, 0.0).breaks < 2.0


def test_it_trains_through_the_ordinary_step() -> None:
    """The losses equal those of an ordinary run with the same learning rates and techniques."""
    cfg = plain(mltricks.compose(["job=lr_find", *SMALL, "technique=[mixup,ema]", "optim=sgd", "job.num_steps=12"]))
    rates, losses = record(rising_run(cfg, cfg["job"]), 12, 2.0)
    plain_run, expected = build(cfg), []
    for step, batch in zip(range(12), plain_run.source.stream(0), strict=False):
        reseed_step(0, step)
        hyper = plain_run.hypers.at(step)
        hyper["optim"]["lr"], hyper["progress"] = rates[step], step / 12
        plain_run.state, metrics = plain_run.step(plain_run.state, batch, hyper)
        expected.append(float(metrics["loss"]))
    assert losses == expected


@pytest.mark.parametrize(
    "overrides",
    [["optim=muon"], ["optim=lion", "technique=sam"], ["engine=traced", "regularizer=dropout"], ["scheduler=cosine"]],
)
def test_it_works_with_any_techniques_and_optimiser(overrides: list[str], tmp_path: Path) -> None:
    found = run(tmp_path, *SMALL, "job.num_steps=40", *overrides)
    assert found["verdict"] == "pass"
    assert 1e-5 < found["suggestion"] < 1.0
    if "optim=muon" in overrides:
        lr, adam_lr = (float(text.partition("=")[2]) for text in found["overrides_suggested"])
        assert adam_lr / lr == pytest.approx(3e-3 / 0.02, rel=0.01), "the two rates keep their ratio"


def test_the_command(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("job=lr_find", *SMALL, f"hydra.run.dir={tmp_path}/out")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "out/lr_find.json").read_text())
    assert found["steps"] == len(found["losses"]) <= 100
    assert f"try {found['suggestion']:.2g}" in done.out
    assert (tmp_path / "out/lr_find.png").stat().st_size > 1000
    assert "lr_find" in run_cli("job=list", "job.group=job").out


def test_a_scheduled_rate_and_an_empty_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"optim\.lr has a schedule of its own"):
        run(tmp_path, *SMALL, "optim.lr={schedule: cosine, start: 0.1, end: 0.0}")
    with pytest.raises(ValueError, match=r"low=10\.0 must lie below"):
        run(tmp_path, *SMALL, "job.low=10.0", "job.high=1.0")
