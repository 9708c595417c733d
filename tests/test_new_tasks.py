"""Techniques, jobs and streams on pairs of inputs and on per-pixel targets: they work, or are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import EXACT, Outcome
from contract import advance
from torch import Tensor, nn

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.data.info import Info
from mltricks.data.streamed import Reader, StreamedSplit, Workers
from mltricks.objectives.base import Objective
from mltricks.state import leaves, merged
from mltricks.weights import info_of

TINY = ["data.limit=64", "epochs=2", "batch_size=16", "progress=none"]
PAIR = ["data=digit_halves", "model=two_towers", "model.width=8"]
MASK = ["data=digit_masks", "model=fcn", "model.width=4", "objective=segment"]


def make(*overrides: str) -> Run:
    return build(plain(mltricks.compose([*EXACT, *TINY, *overrides])))


@pytest.mark.parametrize("technique", ["crop", "flip", "cutmix", "mixup", "tta", "fixmatch"])
def test_techniques_that_move_pixels_are_refused_with_per_pixel_targets(technique: str) -> None:
    with pytest.raises(ValueError, match=f"technique={technique} needs one target for a sample as a whole"):
        make(*MASK, f"technique=[{technique}]", "data.unlabeled_ratio=1")


@pytest.mark.parametrize("technique", ["dropout", "ema", "sam", "label_smoothing", "accumulate"])
def test_techniques_that_do_not_use_pixels_work_on_pairs(technique: str) -> None:
    first, *_, last = advance(make(*PAIR, f"technique=[{technique}]"), 8)
    assert last < first


@pytest.mark.parametrize("task", [PAIR, MASK], ids=["pair", "mask"])
@pytest.mark.parametrize("job", ["check_init", "overfit"])
def test_probes_work_on_pairs_and_masks(task: list[str], job: str, run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(f"job={job}", *task[:1], *task[1:2], *task[3:], *TINY, "optim.lr=0.01", "hydra.run.dir=probe")
    assert done.status == 0, done.err
    assert f"{job}: pass" in done.out


def test_a_stream_may_give_dicts() -> None:
    def decode(path: str) -> dict[str, Tensor]:
        number = torch.tensor(int(path))
        return {"image": number.expand(4, 5, 3).to(torch.uint8), "length": number.double()}

    split = StreamedSplit(Workers(Reader(["0", "1", "2"], torch.tensor([5, 6, 7]), decode), 0), torch.tensor([2, 0]))
    batch: Any = next(split.batches([torch.tensor([1, 0])]))
    assert batch["x"]["image"].shape == (2, 3, 4, 5)
    assert batch["x"]["length"].tolist() == [0.0, 2.0]
    assert batch["y"].tolist() == [5, 7]


def test_nested_dicts_are_merged_leaf_by_leaf() -> None:
    tree = {"a": torch.ones(2), "b": (torch.zeros(1), torch.ones(1))}
    both = merged(torch.cat, [tree, tree])
    assert [t.tolist() for t in leaves(both)] == [[1.0] * 4, [0.0] * 2, [1.0] * 2]
    assert isinstance(both["b"], tuple)


class NoObjective:
    """A mistake of a user: a class that is not derived from ``Objective``."""

    targets = ("classes",)


def test_a_class_that_is_not_an_objective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gives a NoObjective, no objective\. Derive the class from"):
        make("objective=custom", f"objective._target_={__name__}.NoObjective", f"allow_modules=[{__name__}]")


def test_weights_of_an_earlier_version_are_refused() -> None:
    before = {"kind": "image", "target": "classes", "in_shape": [1, 8, 8], "num_outputs": 10, "classes": []}
    with pytest.raises(ValueError, match="an earlier version of mltricks wrote these weights"):
        info_of({"info": before}, {}, [])


class Heads(nn.Module):
    """A model with two outputs."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        size = math.prod(in_shape)
        self.first, self.second = nn.Linear(size, num_outputs), nn.Linear(size, num_outputs)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"first": self.first(x.flatten(1)), "second": self.second(x.flatten(1))}


@dataclass(frozen=True)
class BothHeads(Objective):
    """The mean of the cross-entropies of both outputs."""

    targets = ("classes",)

    def per_sample(self, outputs: dict[str, Tensor], y: Tensor) -> Tensor:
        return torch.stack([F.cross_entropy(part, y, reduction="none") for part in outputs.values()]).mean(0)

    def output_shape(self, info: Info) -> None:
        return None

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.stack([part.softmax(-1) for part in outputs.values()]).mean(0)


HEADS = ["model=custom", f"model._target_={__name__}.Heads"]
HEADS += ["objective=custom", f"objective._target_={__name__}.BothHeads"]
HEADS += [f"allow_modules=[{__name__}]"]


def test_a_model_with_several_outputs_trains_loads_and_predicts(tmp_path: Path) -> None:
    eager, traced = (advance(make(*HEADS, "technique=[ema]", f"engine={engine}"), 8) for engine in ("eager", "traced"))
    assert eager[-1] < eager[0]
    assert eager == pytest.approx(traced, rel=1e-5)
    mltricks.train(mltricks.compose([*TINY, *HEADS, "plots=true"]), tmp_path)
    found = mltricks.load(tmp_path, [__name__]).predict(torch.zeros(3, 8, 8, 1, dtype=torch.uint8))
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_techniques_on_one_output_tensor_are_refused_with_several() -> None:
    with pytest.raises(ValueError, match="technique=tta works on outputs that are one tensor, and model=Heads gives"):
        make(*HEADS, "technique=[tta]")
