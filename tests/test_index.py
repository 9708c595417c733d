"""``index``: every training batch has the positions of its samples, through techniques, micro-batches and stacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXACT
from contract import advance, make
from PIL import Image
from torch import Tensor

import mltricks
from mltricks.batch import Batch
from mltricks.build import build, compose_step
from mltricks.config.compose import plain
from mltricks.data.source import Source
from mltricks.data.splits import MemorySplit
from mltricks.samplers.shuffle import Shuffle
from mltricks.stack.feed import Feed
from mltricks.technique import Ctx, Technique
from mltricks.techniques.accumulate import Accumulate


def text_file(folder: Path) -> list[str]:
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 20)
    return ["data=text", f"data.path={folder / 'text.txt'}", "data.length=8", "model.width=8", "model.depth=1"]


def image_folder(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / "images" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{i}.png")
    return ["data=image_folder", f"data.path={folder}/images", f"data.root={folder}", "data.size=8", "model=mlp"]


@pytest.mark.parametrize(("data", "workers"), [(None, 0), (text_file, 0), (image_folder, 0), (image_folder, 2)])
def test_a_batch_has_the_positions_of_its_samples(data: object, workers: int, tmp_path: Path) -> None:
    overrides = data(tmp_path) if callable(data) else ["data.limit=60", *EXACT]
    run = build(plain(mltricks.compose([*overrides, "batch_size=4", f"data.num_workers={workers}"])))
    order = torch.cat([run.source.order(0), run.source.order(1)])
    kept = run.source.steps_per_epoch * 4
    order = torch.cat([order[:kept], order[len(order) // 2 :][:kept]])
    for i, batch in enumerate(islice(run.source.stream(0), run.source.steps_per_epoch + 2)):
        assert torch.equal(batch["index"].cpu(), order[4 * i : 4 * i + 4])
        again = next(run.data.train.batches([batch["index"].cpu()]))
        assert torch.equal(again["x"], batch["x"])
        assert torch.equal(again["y"], batch["y"])


class Bare:
    """A user's split that does not provide ``index`` and reads two batches ahead."""

    labels = None

    def __len__(self) -> int:
        return 20

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        ahead: list[Tensor] = []
        for index in indices:
            ahead.append(index)
            if len(ahead) == 3:
                found = ahead.pop(0)
                yield {"x": found.float().unsqueeze(1), "y": found}


def test_the_source_adds_the_index_to_a_users_split() -> None:
    for batch in islice(Source(Bare(), Shuffle(), 4, seed=0).stream(2), 12):
        assert torch.equal(batch["index"], batch["y"])


@dataclass(frozen=True)
class Look(Technique):
    """Records the positions that reach the loss."""

    seen: list[Tensor] = field(default_factory=list)

    def loss(self, inner):
        def loss(params, batch, ctx: Ctx):
            self.seen.append(batch["index"])
            return inner(params, batch, ctx)

        return loss


def test_the_index_reaches_the_loss_through_techniques_and_micro_batches() -> None:
    run = make("technique=[crop,mixup,label_smoothing]")
    look = Look()
    run.techniques = {**run.techniques, "micro": Accumulate(num_micro=3), "look": look}
    run.state["own"] |= {"micro": {}, "look": {}}
    run.step = compose_step(run)
    advance(run, 2)
    assert [len(part) for part in look.seen] == [5, 5, 6] * 2
    assert torch.equal(torch.cat(look.seen).cpu(), run.source.order(0)[:32])


@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)])
def test_every_trial_of_a_stack_gets_its_own_index(seeds: tuple[int, int]) -> None:
    runs = [make(f"seed={seed}", f"optim.lr={0.1 * (k + 1)}") for k, seed in enumerate(seeds)]
    feed = Feed(runs)
    for step in (0, 3, runs[0].source.steps_per_epoch):
        index = feed.at(step)[0]["index"]
        for k, run in enumerate(runs):
            alone = next(run.source.stream(step))["index"]
            assert torch.equal(index[k] if index.ndim == 2 else index, alone)


def test_evaluation_batches_of_data_in_memory_have_it_too() -> None:
    split = MemorySplit(torch.zeros(3, 2), torch.arange(3))
    assert next(split.batches([torch.tensor([2, 0])]))["index"].tolist() == [2, 0]
