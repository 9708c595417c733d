"""Samplers that use the epoch and the progress, and samplers that learn from the losses of past batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Outcome, fitting
from contract import advance, assert_same, largest_difference, make
from torch import Tensor

import mltricks
from mltricks import checkpoint
from mltricks.build import Run, compose_step
from mltricks.data.order import PER_SAMPLE
from mltricks.data.source import Source
from mltricks.data.splits import MemorySplit
from mltricks.launch.check import check_parts
from mltricks.launch.probe import fusable
from mltricks.objectives.base import Objective
from mltricks.objectives.classify import Classify
from mltricks.objectives.next_token import NextToken
from mltricks.objectives.regress import Regress
from mltricks.resume import resumed_config
from mltricks.stack.run import StackedRun, build_all
from mltricks.technique import Technique


@dataclass(frozen=True)
class ByLoss:
    """Draws samples in proportion to their last losses; a sample without a loss yet has the weight ``unseen``."""

    unseen: float = 2.3

    def setup(self, split: Any) -> dict[str, Tensor]:
        return {"loss": torch.full((len(split),), self.unseen), "draws": torch.zeros((), dtype=torch.int64)}

    def learn(self, own: dict[str, Tensor], index: Tensor, losses: Tensor) -> dict[str, Tensor]:
        last = own["loss"].scatter_reduce(0, index, losses + 0.01, "amax", include_self=False)
        return {"loss": last, "draws": own["draws"] + len(index)}

    def order(self, split: Any, seed: int, own: dict[str, Tensor]) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.multinomial(own["loss"], len(split), replacement=True, generator=generator)


BY_LOSS = [f"sampler._target_={__name__}.ByLoss", f"allow_modules=[{__name__}]", "data.limit=96"]
STEPS_PER_EPOCH = 6
HELPERS = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}


def resumed(run: Run, folder: Path, *overrides: str) -> Run:
    """Save a run to a file and resume it in a newly built run."""
    checkpoint.save(folder / "last.pt", run.state, run.cfg)
    other = make(*overrides)
    other.state = checkpoint.restore(checkpoint.load(folder / "last.pt")["state"], other.state, folder)
    return other


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize("stop", [3, 6, 8, 17])
def test_a_run_resumes_bit_for_bit_in_mid_epoch(engine: str, stop: int, tmp_path: Path) -> None:
    overrides = [*BY_LOSS, f"engine={engine}", "technique=mixup"]
    whole, part = make(*overrides), make(*overrides)
    losses = advance(whole, 20)
    advance(part, stop)
    other = resumed(part, tmp_path, *overrides)
    assert advance(other, 20 - stop, stop) == losses[stop:]
    assert_same(whole.state, other.state)


def test_a_command_stopped_in_mid_epoch_equals_the_uninterrupted_one(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    """By the real command, with a sampler that learns, and images that grow."""
    grow = ["+technique.grow._target_=test_shapes.Grow", "+technique.grow.until=0.7"]
    net = ["model=custom", "model._target_=test_shapes.AnySize", "+model.width=4"]
    own = [*BY_LOSS, *grow, *net, *fitting(TINY, net), "batch_size=16", "data.limit=96", "epochs=3"]
    allowed = f"allow_modules=[{__name__},test_shapes,stopper]"
    stopper = ["tracker=custom", "tracker._target_=stopper.Stopper", "+tracker.moment=step", "+tracker.at=9"]
    for name, more in {"whole": [], "part": [*stopper, f"+tracker.number={signal.SIGTERM.value}"]}.items():
        done = run_cli(*own, allowed, *more, f"hydra.run.dir={tmp_path / name}", env=HELPERS)
        assert done.status == (75 if more else 0), done.err
    assert int(checkpoint.load(tmp_path / "part")["state"]["step"]) == 9
    given = [f"resume={tmp_path / 'part'}", "tracker=none", allowed]
    mltricks.train(resumed_config(mltricks.compose(given), given), tmp_path / "part", True, given)
    whole, part = (checkpoint.load(tmp_path / name)["state"] for name in ("whole", "part"))
    for key in ("params", "opt", "own", "sampler", "step"):
        assert_same(whole[key], part[key])


def test_the_order_of_an_epoch_depends_on_the_losses_before_it() -> None:
    run = make(*BY_LOSS)
    orders = []
    for epoch in range(3):
        own = {name: t.clone() for name, t in run.state["sampler"]["now"].items()}
        orders.append(run.source.order(epoch, own))
        seen = [b["index"] for b, _ in zip(run.batches(epoch * STEPS_PER_EPOCH), range(1), strict=False)]
        assert torch.equal(seen[0].cpu(), orders[epoch][:16].cpu())
        advance(run, STEPS_PER_EPOCH, epoch * STEPS_PER_EPOCH)
        assert_same(run.state["sampler"]["start"], own)
    untaught = [run.source.order(epoch) for epoch in range(3)]
    assert torch.equal(orders[0].cpu(), untaught[0].cpu())
    assert not torch.equal(orders[1].cpu(), untaught[1].cpu())


def test_losses_are_those_of_the_samples_that_were_drawn() -> None:
    run = make(*BY_LOSS)
    params = {name: p.clone() for name, p in run.state["params"].items()}
    batch = next(run.batches())
    advance(run, 1)
    model = run.model.module
    model.load_state_dict(params)
    losses = F.cross_entropy(model(run.data.info.normalize(batch["x"])), batch["y"], reduction="none").detach()
    learnt = run.state["sampler"]["now"]["loss"]
    torch.testing.assert_close(learnt[batch["index"]], losses + 0.01)
    unseen = torch.ones(96, dtype=torch.bool, device=run.device).index_fill(0, batch["index"], False)
    assert (learnt[unseen] == 2.3).all()


def test_traced_equals_eager() -> None:
    eager, traced = make(*BY_LOSS, "optim=sgd"), make(*BY_LOSS, "optim=sgd", "engine=traced")
    assert advance(traced, 20) == pytest.approx(advance(eager, 20), abs=1e-5)
    assert largest_difference(eager.state, traced.state) < 1e-5


def test_micro_batches_give_the_sampler_the_same_losses() -> None:
    whole, cut = make(*BY_LOSS, "optim=sgd"), make(*BY_LOSS, "optim=sgd", "technique=accumulate")
    advance(whole, 8)
    advance(cut, 8)
    assert largest_difference(whole.state["sampler"], cut.state["sampler"]) < 1e-5


def test_a_stack_is_refused_with_the_reason() -> None:
    cfgs = [make(*BY_LOSS, f"seed={seed}").cfg for seed in range(2)]
    why = "sampler=ByLoss learns from losses, and the rounding of a stack would change the order"
    assert why in str(fusable(cfgs))
    with pytest.raises(ValueError, match=why):
        StackedRun(build_all(cfgs))


@dataclass(frozen=True)
class Reconstruct(Technique):
    """A technique that replaces the loss."""

    def loss(self, inner):
        def loss(params, batch, ctx):
            value = ctx.apply(params, batch["x"]).square().mean()
            return value, {"metrics": {"loss": value}}

        return loss


def test_a_technique_without_per_sample_losses_is_refused() -> None:
    run = make(*BY_LOSS)
    run.techniques, run.state["own"] = {"reconstruct": Reconstruct()}, {"reconstruct": {}}
    run.step = compose_step(run)
    with pytest.raises(ValueError, match=r"sampler=ByLoss learns .* leaves none for a batch of 16\. Leave out"):
        advance(run, 1)


class Bare(Objective):
    """A user's objective that returns only a mean."""

    targets = ("classes",)

    def mean(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y)


def test_an_objective_without_per_sample_losses_is_refused_when_the_run_is_built() -> None:
    own = ["objective=custom", f"objective._target_={__name__}.Bare"]
    with pytest.raises(ValueError, match=r"sampler=ByLoss .* objective=Bare has no per_sample\(outputs, y\)"):
        make(*BY_LOSS, *own)
    cfg = {**make(*BY_LOSS).cfg, "objective": make(*own, BY_LOSS[1]).cfg["objective"]}
    with pytest.raises(ValueError, match=r"sampler=self_paced .*=soft_f1 has no per_sample\(outputs, y\)\. Type samp"):
        make("sampler=self_paced", "objective=soft_f1")
    with pytest.raises(ValueError, match="objective=Bare has no per_sample"):
        check_parts(cfg)


def test_samplers_that_do_not_learn_add_nothing_to_state_and_aux() -> None:
    run = make()
    assert "sampler" not in run.state
    advance(run, 1)
    assert "sampler" not in run.state
    seen: list[dict[str, Any]] = []

    class Spy(Classify):
        def __call__(self, params, batch, ctx):
            value, aux = super().__call__(params, batch, ctx)
            seen.append(aux)
            return value, aux

    run.objective = Spy()
    run.step = compose_step(run)
    advance(run, 1, 1)
    assert PER_SAMPLE not in seen[0]


@pytest.mark.parametrize(
    ("objective", "outputs", "y"),
    [
        (Classify(), torch.randn(6, 4), torch.arange(6) % 4),
        (Classify(), torch.randn(6, 4), torch.rand(6, 4).softmax(1)),
        (Regress(), torch.randn(6, 1), torch.randn(6)),
        (Regress(), torch.randn(6, 3), torch.randn(6, 3)),
        (NextToken(), torch.randn(6, 5, 4), torch.randint(4, (6, 5))),
    ],
)
def test_the_mean_of_the_per_sample_losses_is_the_loss(objective: Any, outputs: Tensor, y: Tensor) -> None:
    losses = objective.per_sample(outputs, y)
    assert losses.shape == (6,)
    torch.testing.assert_close(losses.mean(), objective.judge(outputs, y)[0])
    one = [objective.judge(outputs[i : i + 1], y[i : i + 1])[0] for i in range(6)]
    torch.testing.assert_close(losses, torch.stack(one))


class Curriculum:
    """Takes only the first part of the data, in proportion to ``progress``, repeated to the length of an epoch."""

    def order(self, split: Any, seed: int, progress: float, epoch: int) -> Tensor:
        return torch.arange(len(split)) % max(1, round((progress + 0.25) * len(split))) + 0 * epoch


class Rows:
    """Contiguous rows: column b of batch i + 1 continues column b of batch i."""

    def order(self, split: Any, seed: int, batch_size: int) -> Tensor:
        rows = len(split) // batch_size
        return torch.arange(rows * batch_size).view(batch_size, rows).T.flatten()


def memory(size: int = 40) -> MemorySplit:
    return MemorySplit(torch.arange(size).float().unsqueeze(1), torch.arange(size))


class ReadsAhead(MemorySplit):
    """Takes all positions before it reads the first sample, as worker processes do."""

    def batches(self, indices):
        return super().batches(list(indices))


def test_no_loader_reads_ahead_into_the_next_epoch() -> None:
    split = ReadsAhead(torch.zeros(40, 1), torch.arange(40))
    source = Source(split, ByLoss(), 8, seed=0)
    held = {"now": {"loss": torch.ones(40)}, "start": {"loss": torch.eye(40)[3]}}
    stream = source.stream(2, lambda: held)
    assert [next(stream)["index"].tolist() for _ in range(3)] == [[3] * 8] * 3
    held["now"]["loss"] = torch.eye(40)[7]
    assert [next(stream)["index"].tolist() for _ in range(5)] == [[7] * 8] * 5


def test_an_order_may_use_epoch_and_progress() -> None:
    source = Source(memory(), Curriculum(), 8, seed=0, epochs=4)
    assert source.total_steps == 20
    assert [int(source.order(epoch).max()) + 1 for epoch in range(5)] == [10, 20, 30, 40, 40]
    cut = Source(memory(), Curriculum(), 8, seed=0, epochs=4, max_steps=10)
    assert [int(cut.order(epoch).max()) + 1 for epoch in range(2)] == [10, 30]


def test_an_order_may_use_the_batch_size() -> None:
    stream = Source(memory(), Rows(), 8, seed=0).stream()
    batches = [next(stream)["index"] for _ in range(5)]
    for before, after in pairwise(batches):
        assert torch.equal(after, before + 1)


def test_all_epochs_must_have_the_same_length() -> None:
    class Shrinks:
        def order(self, split: Any, seed: int, epoch: int) -> Tensor:
            return torch.arange(len(split) - epoch)

    with pytest.raises(ValueError, match=r"sampler=Shrinks gives 39 samples for epoch 1 and 40 for the first"):
        Source(memory(), Shrinks(), 8, seed=0).order(1)


def test_unknown_arguments_of_a_sampler_are_refused() -> None:
    class Asks:
        def order(self, split: Any, seed: int, loss: Tensor) -> Tensor:
            return torch.arange(len(split))

    class Half:
        def order(self, split: Any, seed: int, own: Any) -> Tensor:
            return torch.arange(len(split))

    class Any_:
        def order(self, split: Any, seed: int, *rest: Any, **others: Any) -> Tensor:
            return torch.arange(len(split))

    with pytest.raises(
        ValueError, match=r"names the unknown argument loss\. .* epoch, progress, progress_after, batch_size, own"
    ):
        Source(memory(), Asks(), 8, seed=0)
    with pytest.raises(ValueError, match=r"sampler=Half lacks setup, learn"):
        Source(memory(), Half(), 8, seed=0)
    assert Source(memory(), Any_(), 8, seed=0).steps_per_epoch == 5
