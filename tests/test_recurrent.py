"""A recurrent model whose state carries over batches: a buffer, contiguous rows, and evaluation from zeros."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EXACT
from contract import advance, assert_same
from torch import Tensor, nn

import mltricks
from mltricks import checkpoint
from mltricks.batch import Batch
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.technique import Ctx, Own, Params, Technique

WIDTH = 6


class Recurrent(nn.Module):
    """h = tanh(embedding + U h), character by character."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int):
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(num_outputs, width), nn.Linear(width, width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.h if self.training and hasattr(self, "h") else x.new_zeros(len(x), WIDTH, dtype=torch.float32)
        outputs = []
        for column in self.embedding(x).unbind(1):
            h = (column + self.hidden(h)).tanh()
            outputs.append(h)
        if self.training and hasattr(self, "h"):
            self.h = h
        return self.head(torch.stack(outputs, 1))


@dataclass(frozen=True)
class Stateful(Technique):
    """Registers the state as a buffer, and sets it to zero where the text starts again."""

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        model.register_buffer("h", torch.zeros(len(batch["x"]), WIDTH))
        return params, {}

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        ctx.buffers["h"] = torch.where((batch["index"] == 0).any(), 0.0, ctx.buffers["h"])
        return batch


class Rows:
    """Row b of a batch continues row b of the batch before."""

    def order(self, split: Any, seed: int, batch_size: int) -> Tensor:
        num = len(split) // batch_size
        return torch.arange(num * batch_size).view(batch_size, num).T.flatten()


def make(folder: Path, *overrides: str) -> Run:
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    own = [f"model._target_={__name__}.Recurrent", f"sampler._target_={__name__}.Rows", f"allow_modules=[{__name__}]"]
    own += [f"+technique.stateful._target_={__name__}.Stateful", "model=custom", f"+model.width={WIDTH}", "optim=sgd"]
    data = ["data=text", f"data.path={folder / 'text.txt'}", "data.length=8", "batch_size=4", "epochs=2"]
    return build(plain(mltricks.compose([*EXACT, *data, *own, *overrides])))


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_the_state_carries_over_batches_and_restarts_with_the_text(engine: str, tmp_path: Path) -> None:
    run = make(tmp_path, "optim.lr=1e-20", f"engine={engine}")
    module, num = run.model.module, run.source.steps_per_epoch
    batches = list(islice(run.source.stream(0), num))
    for before, after in pairwise(batches):
        assert torch.equal(before["y"][:, -1], after["x"][:, 0])
    module.load_state_dict(run.state["params"], strict=False)
    h = torch.zeros(4, WIDTH, device=run.device)
    for step in (*range(num), 0):
        if step == 0:
            h = torch.zeros(4, WIDTH, device=run.device)
        for column in module.embedding(batches[step]["x"]).detach().unbind(1):
            h = (column + module.hidden(h).detach()).tanh()
        advance(run, 1, int(run.state["step"]))
        torch.testing.assert_close(run.state["buffers"]["h"], h)


def test_a_run_resumes_with_its_state(tmp_path: Path) -> None:
    whole, part = make(tmp_path), make(tmp_path)
    losses = advance(whole, 12)
    advance(part, 7)
    checkpoint.save(tmp_path / "last.pt", part.state, part.cfg)
    other = make(tmp_path)
    other.state = checkpoint.restore(checkpoint.load(tmp_path / "last.pt")["state"], other.state, tmp_path)
    assert advance(other, 5, 7) == losses[7:]
    assert_same(whole.state, other.state)


def test_evaluation_starts_from_zeros_with_any_batch_size(tmp_path: Path) -> None:
    run = make(tmp_path)
    x = next(run.data.val.batches([torch.arange(3)]))["x"]
    before = run.predict(run.state, x)
    run.state["buffers"]["h"] = torch.ones(4, WIDTH)
    assert torch.equal(run.predict(run.state, x), before)
