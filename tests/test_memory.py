"""Running out of memory with real allocation errors: an allocation of petabytes fails at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import EXACT
from contract import assert_same
from torch import Tensor

import mltricks
from mltricks import checkpoint
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.memory import is_out_of_memory
from mltricks.optim.base import Opt
from mltricks.optim.sgd import SGD
from mltricks.technique import Params
from mltricks.train import advance

SMALL = [
    "model=custom",
    "model._target_=greedy.Greedy",
    "allow_modules=[greedy,test_memory]",
    "data.limit=128",
    "batch_size=16",
    "epochs=1",
    "plots=false",
    "progress=none",
    "optim=sgd",
    *EXACT,
]


def final_state(folder: Path, *overrides: str) -> dict[str, Tensor]:
    mltricks.train(mltricks.compose([*SMALL, *overrides]), folder)
    return checkpoint.load(folder)["state"]


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize("technique", ["[mixup]", "[mixup,sam,ema]"])
def test_a_run_continues_with_micro_batches_as_if_it_had_begun_with_them(
    technique: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [f"technique={technique}", f"engine={engine}"]
    rescued = final_state(tmp_path / "rescued", *common, "+model.limit=5")
    said = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert said == [
        "out of memory: now 2 micro-batches make every gradient; batch_size=16 stays",
        "out of memory: now 4 micro-batches make every gradient; batch_size=16 stays",
    ]
    declared = [f"technique={technique[:-1]},accumulate]", "technique.accumulate.num_micro=4", f"engine={engine}"]
    expected = final_state(tmp_path / "declared", *declared, "+model.limit=16")
    for part in ("params", "opt", "own", "step"):
        if part == "own":
            expected[part].pop("accumulate")
        assert_same({part: rescued[part]}, {part: expected[part]})


def test_configured_micro_batches_are_split_and_the_technique_is_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = build(plain(mltricks.compose([*SMALL, "technique=[accumulate,sam]", "+model.limit=4"])))
    advance(run, next(run.source.stream(0)), 0)
    assert list(run.techniques) == ["accumulate", "sam"]
    assert run.techniques["accumulate"].num_micro == 2
    assert run.num_micro == 2
    assert "now 2 micro-batches" in capsys.readouterr().err


def test_a_sample_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"micro-batches of one sample: .*allocate memory.*precision=bf16"):
        mltricks.train(mltricks.compose([*SMALL, "+model.limit=0"]), tmp_path)


@dataclass(frozen=True)
class GreedyUpdate(SGD):
    """Writes the first half of an update, and then fails to allocate petabytes."""

    def fused(self, grads: list[Tensor], slots: dict[str, list[Tensor]], params: list[Tensor], count: Tensor) -> None:
        torch.empty(2**50)

    def update_in_place(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        assert self.can_fuse()
        return super().update_in_place(grads, opt, params)


def test_an_update_that_has_begun_is_not_repeated() -> None:
    cfg = plain(mltricks.compose([*SMALL, "+model.limit=16", "optim._target_=test_memory.GreedyUpdate"]))
    run = build(cfg)
    with pytest.raises(ValueError, match="in the update of the weights"):
        advance(run, next(run.source.stream(0)), 0)


def test_other_errors_are_not_treated_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError, match="allocate memory") as allocation:
        torch.empty(2**50)
    with pytest.raises(RuntimeError) as shapes:
        torch.zeros(2) @ torch.zeros(3)
    assert is_out_of_memory(allocation.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(shapes.value)
