"""Averages of weights and the batch-norm statistics that belong to them, compared with ``torch.optim.swa_utils``."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from bare import context, images, small_net
from conftest import TINY
from contract import advance, largest_difference, make
from test_fused import assert_members_end_as_alone, records
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

import mltricks
from mltricks.build import Run
from mltricks.config.create import create
from mltricks.functional_model import FunctionalModel
from mltricks.predicting import inputs_for_statistics, re_estimated, sets_of_weights, to_predict
from mltricks.schedules.drives import schedule_defaults
from mltricks.techniques.swa import Swa
from mltricks.weights import load_weights

NET = ["model=resnet9", "model.width=4", "optim=sgd", "optim.lr=0.05", "data.limit=160", "batch_size=16", "epochs=2"]
SWA = [*NET, "technique=swa", "technique.swa.start_frac=0.5", "technique.swa.averages=5"]


def batch_norms(buffers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: b for name, b in buffers.items() if name.endswith(("running_mean", "running_var"))}


def inputs_of(run: Run, num: int | None) -> list[Tensor]:
    data, cfg = run.data, run.cfg
    return list(inputs_for_statistics(data.train, data.info, cfg["batch_size"], cfg["seed"], num))


def test_statistics_equal_those_of_update_bn_bit_for_bit() -> None:
    module = small_net(norm=True)
    ctx, params = context(module), {name: p.detach() for name, p in module.named_parameters()}
    batches = [images(16, seed)["x"] for seed in range(5)]
    found = re_estimated(ctx.model, params, ctx.buffers, batches)
    update_bn(batches, module)
    for name, expected in batch_norms(dict(module.named_buffers())).items():
        assert torch.equal(found[name], expected)


class Mixed(nn.Module):
    """Dropout in front of a norm, a frozen norm and one without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.norm, self.still = nn.Dropout(0.5), nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.bare = nn.BatchNorm1d(6, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training, "only norms run in training mode"
        return self.still(self.norm(self.drop(x)))


def test_only_norms_with_running_statistics_run_in_training_mode() -> None:
    module = Mixed()
    model = FunctionalModel(module, still=[module.still])
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    x = torch.randn(20, 6)
    before = torch.get_rng_state()
    found = re_estimated(model, dict(module.named_parameters()), buffers, [x])
    assert torch.equal(before, torch.get_rng_state()), "no random number is drawn"
    torch.testing.assert_close(found["norm.running_mean"], x.mean(0))
    torch.testing.assert_close(found["norm.running_var"], x.var(0))
    assert torch.equal(found["still.running_mean"], torch.zeros(6))
    assert torch.equal(buffers["norm.running_mean"], torch.zeros(6)), "the given tensors stay"
    assert module.norm.momentum == 0.1
    assert not any(part.training for part in module.modules())


def swa_reference(run: Run, points: list[int]) -> AveragedModel:
    """Train ``run`` to its end; torch's average of its weights after the updates of these numbers."""
    follower = copy.deepcopy(run.model.module)
    average = AveragedModel(follower)
    for step in range(run.total_steps):
        advance(run, 1, step)
        if step + 1 in points:
            follower.load_state_dict({**run.state["params"], **run.state["buffers"]})
            average.update_parameters(follower)
    return average


def test_swa_equals_torchs_averaged_model_with_update_bn() -> None:
    run = make(*SWA)
    reference = swa_reference(run, [12, 14, 16, 18, 20])
    assert run.total_steps == 20
    assert int(run.state["own"]["swa"]["count"]) == 5
    for name, p in reference.module.named_parameters():
        torch.testing.assert_close(run.state["own"]["swa"]["params"][name], p.detach())
    update_bn(inputs_of(run, 200), reference)
    x = next(run.data.val.batches([torch.arange(30)]))["x"]
    predicted = run.predict(to_predict(run, run.state), x)
    torch.testing.assert_close(predicted, reference.eval()(run.data.info.normalize(x)).detach(), rtol=1e-4, atol=1e-5)
    stale = run.predict(run.state, x)
    assert (stale - predicted).abs().max() > 1e-2


def test_before_the_first_average_the_current_weights_predict() -> None:
    run = make(*SWA)
    advance(run, 7)
    (params, _), *_ = sets_of_weights(run, run.state)
    assert all(torch.equal(params[name], p) for name, p in run.state["params"].items())


@pytest.mark.parametrize(("start", "averages", "total"), [(0.75, 20, 360), (0.0, 3, 10), (0.5, 50, 12), (0.9, 7, 1001)])
def test_averages_are_taken_at_equal_distances_and_at_the_end(start: float, averages: int, total: int) -> None:
    swa, ctx, taken = Swa(start, averages, 0), context(small_net()), []
    own = {"params": {"w": torch.zeros(1)}, "count": torch.zeros((), dtype=torch.int64)}
    for step in range(total):
        ctx.own, ctx.step, ctx.progress = own, torch.tensor(step), step / total
        _, own = swa.after({"w": torch.tensor([float(step)])}, ctx, {})
        if len(taken) < int(own["count"]):
            taken.append(step)
    points = [total * (start + (1 - start) * k / averages) for k in range(1, averages + 1)]
    tail = total - int(total * start)
    assert taken[-1] == total - 1
    assert len(taken) == min(averages, tail)
    assert own["params"]["w"].item() == pytest.approx(sum(taken) / len(taken), rel=1e-4)
    if averages <= tail:
        assert all(abs(step + 1 - point) < 1 + 1e-6 for step, point in zip(taken, points, strict=True))


def test_batches_for_statistics_are_full_fixed_and_never_augmented() -> None:
    run = make(*SWA, "augment=standard", "data.drop_last=false", "data.limit=150")
    first, again = (inputs_of(run, None) for _ in range(2))
    assert [len(x) for x in first] == [16] * 9
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(inputs_of(run, 3)) == 3
    there = run.data.info.normalize(next(run.data.train.batches([torch.arange(150)]))["x"]).flatten(1)
    assert all((there == row).all(1).any() for row in first[0].flatten(1))
    few = make(*SWA, "batch_size=100", "data.drop_last=false", "data.limit=80")
    assert [len(x) for x in inputs_of(few, 200)] == [80]


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_an_estimate_between_two_updates_does_not_change_training(engine: str) -> None:
    runs = [make(*SWA, "regularizer=dropout", f"engine={engine}") for _ in range(2)]
    losses = [advance(runs[0], 8), advance(runs[1], 3)]
    first, again = (to_predict(runs[1], runs[1].state)["buffers"] for _ in range(2))
    assert all(torch.equal(b, again[name]) for name, b in first.items())
    assert losses[0] == losses[1] + advance(runs[1], 5, 3)
    assert largest_difference(runs[0].state, runs[1].state) == 0.0


@pytest.mark.parametrize("weights", [["technique=lookahead", "technique.lookahead.k=4"], ["optim=schedule_free_sgd"]])
def test_whoever_predicts_with_other_weights_gets_their_statistics(weights: list[str]) -> None:
    setting = "optim" if weights[0].startswith("optim") else "technique.lookahead"
    run = make(*NET, *weights, f"{setting}.statistics_batches=3")
    advance(run, 6)
    state = to_predict(run, run.state)
    (params, buffers), *_ = sets_of_weights(run, state)
    expected = re_estimated(run.model, params, run.state["buffers"], inputs_of(run, 3))
    assert any(not torch.equal(params[name], p) for name, p in run.state["params"].items())
    assert all(torch.equal(buffers[name], b) for name, b in batch_norms(expected).items())
    assert any(not torch.equal(b, run.state["buffers"][name]) for name, b in batch_norms(buffers).items())


def test_runs_that_need_no_statistics_keep_their_state() -> None:
    for overrides in (NET, [*SWA, "technique.swa.statistics_batches=0"], ["model=mlp", "technique=swa"]):
        run = make(*overrides)
        assert to_predict(run, run.state) is run.state


def test_the_whole_run_measures_keeps_and_tests_the_same_statistics(tmp_path: Path) -> None:
    cfg = mltricks.compose([*TINY, *SWA, "epochs=2"])
    mltricks.train(cfg, tmp_path / "whole")
    weights, _ = load_weights(tmp_path / "whole")
    val = [line for line in records(tmp_path / "whole") if line["split"] == "val"]
    best = max(val, key=lambda line: (line["accuracy"], -line["loss"]))
    run = make(*TINY, *SWA, "epochs=2")
    loaded = mltricks.load(tmp_path / "whole")
    batch = next(run.data.val.batches([torch.arange(len(run.data.val))]))
    loss = -loaded.predict(batch["x"])[torch.arange(len(batch["y"])), batch["y"]].log().mean()
    assert float(loss) == pytest.approx(best["loss"], rel=1e-5)
    module = FunctionalModel(run.model.module)
    params = {name: weights[f"params.{name}"] for name, _ in module.params}
    buffers = {name: weights[f"buffers.{name}"] for name, _ in module.buffers}
    found = re_estimated(module, params, buffers, inputs_of(run, 200))
    for name, expected in batch_norms(found).items():
        torch.testing.assert_close(buffers[name], expected, rtol=1e-4, atol=1e-6)


def test_the_members_of_a_stack_have_statistics_of_their_own(tmp_path: Path) -> None:
    shared = [*TINY, *SWA, "epochs=2"]
    varied = [["seed=0"], ["seed=1", "optim.lr=0.02", "technique.swa.start_frac=0.25"]]
    assert_members_end_as_alone(tmp_path, shared, varied, 1e-3, rtol=1e-3, atol=1e-4)


def test_two_averages_are_refused() -> None:
    with pytest.raises(ValueError, match=r"technique=swa and technique=ema both predict with weights of their own"):
        make("technique=[swa,ema]")


def test_the_schedule_of_the_source() -> None:
    """``schedule`` of the authors' train.py, with swa_start = 150 of 200 epochs and swa_lr = 0.5 of lr."""
    ours = create({**schedule_defaults("swa", "scheduler"), "tail": 0.5}, "scheduler")
    for epoch in range(200):
        t = epoch / 150
        theirs = 1.0 if t <= 0.5 else 1.0 - 0.5 * (t - 0.5) / 0.4 if t <= 0.9 else 0.5
        assert ours(epoch / 200) == pytest.approx(theirs)


# Snapshots

CYCLES = ["scheduler=cosine_restarts", "scheduler.growth=1", "scheduler.cycles=4"]
SNAPSHOT = [*NET, *CYCLES, "technique=snapshot", "technique.snapshot.cycles=4", "technique.snapshot.members=3"]


def copy_of(run: Run) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in {**run.state["params"], **run.state["buffers"]}.items()}


def test_snapshots_predict_with_the_mean_of_their_probabilities() -> None:
    run, kept, x = make(*SNAPSHOT), {}, None
    module = copy.deepcopy(run.model.module).eval()
    for step in range(run.total_steps):  # 20 updates, so cycles end after 5, 10, 15 and 20 of them
        advance(run, 1, step)
        kept[step + 1] = copy_of(run)
        x = next(run.data.val.batches([torch.arange(9)]))["x"]
        ends = [end for end in (5, 10, 15, 20) if end <= step + 1][-3:] or [step + 1]
        probabilities = []
        for end in ends:
            module.load_state_dict(kept[end])
            probabilities.append(module(run.data.info.normalize(x)).softmax(1).detach())
        found = run.predict(to_predict(run, run.state), x).softmax(1)
        torch.testing.assert_close(found, torch.stack(probabilities).mean(0), rtol=1e-4, atol=1e-6)
    assert int(run.state["own"]["snapshot"]["count"]) == 4


def test_one_snapshot_of_one_cycle_is_the_last_weights() -> None:
    shared = [*NET, "scheduler=cosine"]
    run = make(*shared, "technique=snapshot", "technique.snapshot.cycles=1", "technique.snapshot.members=1")
    plain = make(*shared)
    assert advance(run, 20) == advance(plain, 20)
    x = next(run.data.val.batches([torch.arange(9)]))["x"]
    torch.testing.assert_close(run.predict(run.state, x).softmax(1), plain.predict(plain.state, x).softmax(1))


def test_snapshots_of_values_are_averaged() -> None:
    shared = ["data=custom", "data._target_=contract_data.Slope", "allow_modules=[contract_data]", "objective=regress"]
    given = [*shared, "model=mlp", *CYCLES, "technique=snapshot", "technique.snapshot.cycles=4"]
    with pytest.raises(ValueError, match=r"technique\.snapshot\.average=probabilities is for classes"):
        make(*given, "technique.snapshot.members=2")
    run = make(*given, "technique.snapshot.members=2", "technique.snapshot.average=logits", "max_steps=8")
    advance(run, 8)
    slots = run.state["own"]["snapshot"]["slots"]
    x = next(run.data.val.batches([torch.arange(5)]))["x"]
    ctx = context(run.model.module)
    both = [
        ctx.fork(slot["buffers"]).apply(slot["params"], run.data.info.normalize(x), train=False)
        for slot in slots.values()
    ]
    torch.testing.assert_close(run.predict(run.state, x), sum(both) / 2)


def test_a_finished_run_is_loaded_with_all_its_snapshots(tmp_path: Path) -> None:
    result = mltricks.train(mltricks.compose([*TINY, *SNAPSHOT]), tmp_path)
    run = make(*TINY, *SNAPSHOT)
    x, y = (next(run.data.test.batches([torch.arange(len(run.data.test))]))[key] for key in "xy")
    loss = -mltricks.load(tmp_path).predict(x)[torch.arange(len(y)), y].log().mean()
    assert float(loss) == pytest.approx(result.test["loss"], rel=1e-4)


def test_a_rate_that_does_not_restart_is_refused() -> None:
    for overrides, rate in (
        (["scheduler=cosine"], r"from 0\.0\d+ to 0\.0\d+ at update 5 of 20"),
        ([], "from 0.05 to 0.05"),
    ):
        with pytest.raises(ValueError, match=rf"does not restart after cycle 1 .*{rate}.*cosine_restarts"):
            make(*NET, "technique=snapshot", "technique.snapshot.cycles=4", "technique.snapshot.members=4", *overrides)
    with pytest.raises(ValueError, match="does not restart after cycle 1"):
        make(*SNAPSHOT, "technique.snapshot.cycles=5")
    with pytest.raises(ValueError, match=r"members=4 is more than technique\.snapshot\.cycles=3"):
        make(*SNAPSHOT, "technique.snapshot.cycles=3", "technique.snapshot.members=4")
    make(*SNAPSHOT, "technique.snapshot.cycles=2", "technique.snapshot.members=2")  # every other restart
