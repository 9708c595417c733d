"""An optimiser with only ``init`` and ``update`` trains on every engine, in a stack, and with skipped steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import EXACT
from contract import advance, assert_same

import mltricks
from mltricks import checkpoint
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.stack.run import train_stacked

MLP = ["model=mlp", "model.width=16", "data.limit=320", "batch_size=32", "plots=false", "progress=none", *EXACT]
OWN = ["optim=custom", "optim._target_=two_methods.HeavyBall", "+optim.momentum=0.9", "allow_modules=[two_methods]"]
SGD = ["optim=sgd", "optim.weight_decay=0", "optim.nesterov=false"]
RATE = ["optim.lr=0.1", "optim.momentum=0.9"]


def final(folder: Path, *overrides: str) -> checkpoint.State:
    assert mltricks.train(mltricks.compose([*MLP, *overrides]), folder).status == "completed"
    return checkpoint.load(folder)["state"]


@pytest.mark.parametrize("more", [["engine=eager"], ["engine=traced"], ["technique=loss_scale"]], ids=str)
def test_it_trains_like_the_optimiser_of_this_package(more: list[str], tmp_path: Path) -> None:
    own = final(tmp_path / "own", *OWN, *RATE, "epochs=2", *more)
    ours = final(tmp_path / "ours", *SGD, *RATE, "epochs=2", *more)
    for name, p in own["params"].items():
        torch.testing.assert_close(p, ours["params"][name], rtol=1e-4, atol=1e-5)


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    common = [*OWN, *RATE]
    whole = final(tmp_path / "whole", *common, "epochs=3")
    cfg = plain(mltricks.compose([*MLP, *common, "epochs=3"]))
    mltricks.train({**cfg, "max_steps": 13}, tmp_path / "cut")
    mltricks.train(cfg, tmp_path / "cut", resume=True)
    cut = checkpoint.load(tmp_path / "cut")["state"]
    for part in ("params", "opt", "step"):
        assert_same({part: cut[part]}, {part: whole[part]})


def test_its_floats_may_differ_in_a_stack() -> None:
    cfgs = [
        plain(mltricks.compose([*MLP, *OWN, f"optim.lr={lr}", f"optim.momentum={momentum}", "max_steps=8"]))
        for lr, momentum in ((0.1, 0.9), (0.03, 0.5))
    ]
    for cfg, stacked in zip(cfgs, train_stacked(cfgs), strict=True):
        run = build(cfg)
        advance(run, 8)
        for name, p in run.state["params"].items():
            torch.testing.assert_close(stacked.state["params"][name], p, rtol=1e-4, atol=1e-5)
