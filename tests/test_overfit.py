"""job=overfit: a model fits a small sample, or the job gives the reason why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.probes.bare import bare_config, bare_run
from mltricks.probes.overfit import overfit, small_sample

SMALL = ("data.limit=320", "model=mlp", "model.width=32")


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    overfit(mltricks.compose(["job=overfit", *overrides]), folder, list(overrides), "MULTIRUN")
    return json.loads((folder / "overfit.json").read_text())


def test_a_small_sample_is_learnt(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("job=overfit", *SMALL, "regularizer=dropout", "augment=standard", f"hydra.run.dir={tmp_path}/out")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "out/overfit.json").read_text())
    assert found["verdict"] == "pass"
    assert found["accuracy"] == 1.0
    assert found["loss"] <= 0.05 * found["ignorant_loss"]
    assert found["samples"] == 32 * found["steps"]
    assert (tmp_path / "out/overfit.png").stat().st_size > 1000


def twins() -> object:
    """Identical inputs with two different targets."""
    return [(np.zeros((8, 8), dtype=np.uint8), i % 2) for i in range(100)]


def test_identical_inputs_with_different_targets_are_not_learnt(tmp_path: Path) -> None:
    data = ["data=custom", f"data._target_={__name__}.twins", f"allow_modules=[{__name__}]"]
    found = run(tmp_path, *data, "model=mlp", "job.num_steps=40", "job.factors=[1.0,0.1]")
    assert found["verdict"] == "fail"
    assert found["loss"] > 0.5, "the targets' entropy is near ln 2"
    assert len(found["tries"]) == 2
    assert any("targets" in line for line in found["advice"])


def test_another_learning_rate_is_tried_and_reported(tmp_path: Path) -> None:
    found = run(tmp_path, *SMALL, "optim=sgd", "optim.lr=1e-5", "job.num_steps=60", "job.factors=[1.0,3000.0]")
    assert found["verdict"] == "pass"
    assert found["tries"][0]["fits"] is False
    assert found["advice"] == ["Type optim.lr=0.03: the configured one did not fit the sample."]


def test_regularisation_is_off_and_nothing_else_changes() -> None:
    cfg = plain(mltricks.compose([*SMALL, "augment=standard", "technique=[mixup,ema]", "scheduler=cosine"]))
    bare = bare_config(cfg)
    assert bare["technique"] == {}
    assert bare["optim"]["weight_decay"] == 0.0
    assert {k: v for k, v in bare["optim"].items() if k != "weight_decay"} == {
        k: v for k, v in cfg["optim"].items() if k != "weight_decay"
    }
    assert cfg["optim"]["weight_decay"] == 0.01, "the given configuration is not changed"
    assert bare_run(cfg).hypers.drives == {}


def test_the_sample_has_the_size_asked_for() -> None:
    built = build(plain(mltricks.compose([*SMALL, "batch_size=12"])))
    sample = small_sample(built, 32)
    assert len(sample["y"]) == 32
    stream = built.source.stream(0)
    assert torch.equal(sample["y"], torch.cat([next(stream)["y"] for _ in range(3)])[:32])
    assert len(small_sample(built, 10_000)["y"]) == 312, "as many as fill whole batches"


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_samples=0 is out of range"):
        run(tmp_path, *SMALL, "job.num_samples=0")
