"""job=check_init: closed forms of the initial loss, and the advice on bad initialisations."""

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
from mltricks.probes.check_init import check_init

SMALL = ("data.limit=320", "model=mlp", "model.width=16")


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run the job and return the file that it writes."""
    check_init(mltricks.compose(["job=check_init", *SMALL, *overrides]), folder, list(overrides), "MULTIRUN")
    return json.loads((folder / "check_init.json").read_text())


class ZeroHead(nn.Module):
    """A linear model whose weights are zero."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        self.head = nn.Linear(math.prod(in_shape), num_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


class Dead(ZeroHead):
    """A hidden layer whose biases make every unit but one dead."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int):
        super().__init__((8,), num_outputs)
        self.hidden, self.relu = nn.Linear(math.prod(in_shape), 8), nn.ReLU()
        self.hidden.bias.data = torch.tensor([100.0, *[-1000.0] * 7])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.hidden(x.flatten(1))))


def numbers() -> object:
    """A regression with targets of mean 3 and standard deviation 2."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    return [(row, float(t)) for row, t in zip(x, 3 + 2 * rng.normal(size=400), strict=True)]


ZERO = ["model=custom", f"model._target_={__name__}.ZeroHead", f"allow_modules=[{__name__}]"]


def test_a_head_of_zeros_has_loss_ln_c(tmp_path: Path) -> None:
    cfg = mltricks.compose(["job=check_init", "data.limit=320", *ZERO])
    check_init(cfg, tmp_path, [], "MULTIRUN")
    found = json.loads((tmp_path / "check_init.json").read_text())
    assert found["loss"] == pytest.approx(math.log(10), abs=1e-6)
    assert found["expected_is"] == "ln 10"
    assert found["verdict"] == "pass"
    assert found["output_std"] == 0
    assert (tmp_path / "check_init.png").stat().st_size > 1000


def test_the_expected_loss_of_a_regression_is_the_variance(tmp_path: Path) -> None:
    data = ["data=custom", f"data._target_={__name__}.numbers", "objective=regress", "batch_size=64"]
    cfg = mltricks.compose(["job=check_init", *data, *ZERO, "job.num_batches=3"])
    check_init(cfg, tmp_path, [], "MULTIRUN")
    found = json.loads((tmp_path / "check_init.json").read_text())
    mean, std = found["target_mean"], found["target_std"]
    assert found["expected"] == pytest.approx(std**2, rel=1e-5)
    assert found["loss"] == pytest.approx(std**2 + mean**2, rel=1e-5), "outputs are zero"
    assert found["verdict"] == "fail", "targets far from zero are a bad initialisation"


def test_the_penalty_has_its_closed_form(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    assert plain["penalty"] is None
    assert "weight decay 0.01 acts on the weights" in plain["reason"]
    found = run(tmp_path / "l2", "regularizer=l2", "technique.l2.linear=0.5")
    squares = sum(row["norm"] ** 2 for row in found["gradients"])
    assert found["penalty"] == pytest.approx(0.5 * 0.5 * squares, rel=1e-5)
    assert found["loss"] == plain["loss"], "measured with regularisation off"
    assert found["verdict"] == "pass"
    off = run(tmp_path / "off", "regularizer=l2", "technique.l2.linear=0", "technique.l2.conv=0")
    assert off["verdict"] == "fail"
    assert "does not rise" in off["reason"]


def test_large_weights_fail_with_advice(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("job=check_init", *SMALL, "init=orthogonal", "init.gain=30", f"hydra.run.dir={tmp_path}/out")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "out/check_init.json").read_text())
    assert found["verdict"] == "fail"
    assert "check_init: fail. initial loss" in done.out
    assert "Initialise with" in done.out
    assert json.loads((tmp_path / "out/summary.json").read_text())["status"] == "completed", "the job itself succeeded"


def test_dead_units_and_gradients_are_those_of_the_model(tmp_path: Path) -> None:
    custom = ["model=custom", f"model._target_={__name__}.Dead", f"allow_modules=[{__name__}]"]
    check_init(mltricks.compose(["job=check_init", "data.limit=320", *custom]), tmp_path, [], "MULTIRUN")
    found = json.loads((tmp_path / "check_init.json").read_text())
    rows = {row["layer"]: row for row in found["activations"]}
    assert rows["relu"]["dead"] == 7 / 8
    assert any("dead" in line for line in found["advice"])
    norms = {row["weight"]: row["gradient"] for row in found["gradients"]}
    assert norms["hidden.weight"] == 0, "a head of zeros passes no gradient back"
    assert norms["head.weight"] > 0


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_batches=0 is out of range"):
        run(tmp_path, "job.num_batches=0")
