"""A plateau schedule as a technique: it keeps its memory in its own tensors, and its ``after`` scales the update."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from bare import images, params_of, sgd, small_net, train
from contract import advance, assert_same, largest_difference, make
from torch import nn

from mltricks import checkpoint
from mltricks.batch import Batch
from mltricks.config.values import Count, Positive
from mltricks.stack.run import StackedRun, build_all
from mltricks.technique import Aux, Ctx, Own, Params, Technique


@dataclass(frozen=True)
class Plateau(Technique):
    """Multiplies all further updates by ``factor`` each time the training loss has not fallen for ``patience`` steps.

    Args:
        factor: factor on the updates, > 0.
        patience: steps without a new best loss.
    """

    factor: Positive
    patience: Count

    needs_previous = True
    after_changes = "update"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        start = {"best": torch.tensor(torch.inf), "scale": torch.ones(())}
        return params, {**start, "bad": torch.zeros((), dtype=torch.int64)}

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        loss, scale = aux["metrics"]["loss"], ctx.own["scale"]
        better = loss < ctx.own["best"] * (1 - 1e-4)
        bad = torch.where(better, 0, ctx.own["bad"] + 1)
        due = bad > self.patience
        own = {
            "best": torch.where(better, loss, ctx.own["best"]),
            "scale": torch.where(due, scale * self.factor, scale),
            "bad": torch.where(due, 0, bad),
        }
        return {name: p.lerp(params[name], scale) for name, p in aux["previous"].items()}, own


def test_updates_are_scaled_as_by_torchs_plateau_schedule() -> None:
    batches = [images(8, seed) for seed in range(40)]
    history = train(small_net(), batches, sgd(0.3), plateau=Plateau(factor=0.5, patience=3))
    module = small_net()
    theirs = torch.optim.SGD(module.parameters(), 0.3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=3)
    for batch, (state, metrics) in zip(batches, history, strict=True):
        theirs.zero_grad()
        loss = nn.functional.cross_entropy(module(batch["x"]), batch["y"])
        loss.backward()
        theirs.step()
        schedule.step(float(metrics["loss"]))
        assert float(metrics["loss"]) == pytest.approx(loss.item(), abs=1e-4)
        assert 0.3 * float(state["own"]["plateau"]["scale"]) == pytest.approx(theirs.param_groups[0]["lr"])
        torch.testing.assert_close(state["params"], params_of(module), atol=1e-4, rtol=1e-4)
    assert float(history[-1][0]["own"]["plateau"]["scale"]) < 0.3


PLATEAU = [f"+technique.plateau._target_={__name__}.Plateau", "+technique.plateau.factor=0.5"]
PLATEAU += ["+technique.plateau.patience=2", f"allow_modules=[{__name__}]", "model=mlp", "model.width=8", "optim=sgd"]


def test_it_resumes_records_and_stacks(tmp_path: Path) -> None:
    whole, part, traced = make(*PLATEAU), make(*PLATEAU), make(*PLATEAU, "engine=traced")
    losses = advance(whole, 16)
    advance(part, 7)
    checkpoint.save(tmp_path / "last.pt", part.state, part.cfg)
    other = make(*PLATEAU)
    other.state = checkpoint.restore(checkpoint.load(tmp_path / "last.pt")["state"], other.state, tmp_path)
    assert advance(other, 9, 7) == losses[7:]
    assert_same(whole.state, other.state)
    assert float(whole.state["own"]["plateau"]["scale"]) < 1
    assert advance(traced, 16) == pytest.approx(losses, abs=1e-5)
    cfgs = [make(*PLATEAU, f"seed={k}", f"technique.plateau.factor={0.5 - 0.2 * k}").cfg for k in range(2)]
    stacked = StackedRun(build_all(cfgs))
    stacked.advance(16)
    for k, run in enumerate(build_all(cfgs)):
        advance(run, 16)
        assert largest_difference(stacked.row(k), run.state) < 1e-5
