"""Curriculum, self-paced, importance and repeated sampling: pacing, pools, unbiased weights, exact resumes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import advance, assert_same, largest_difference, make
from test_learning_samplers import resumed

import mltricks
from mltricks.build import Run
from mltricks.config.compose import compose, plain
from mltricks.config.create import create
from mltricks.data.order import learns
from mltricks.data.splits import MemorySplit
from mltricks.launch.probe import fusable
from mltricks.samplers.curriculum import PACINGS
from mltricks.samplers.importance import Importance
from mltricks.samplers.pool import drawn_from, ranked
from mltricks.samplers.repeated import Repeated
from mltricks.samplers.self_paced import SelfPaced
from mltricks.samplers.shuffle import Shuffle
from mltricks.seen import seen_by_model
from mltricks.step import weighed

SMALL = ["data.limit=96", "epochs=5", "model=mlp", "optim=sgd"]


def split(count: int, classes: int = 3) -> MemorySplit:
    return MemorySplit(torch.zeros(count, 1), torch.arange(count) % classes)


@pytest.mark.parametrize("name", ["curriculum", "self_paced", "importance"])
def test_a_sampler_that_knows_no_losses_says_so(name: str) -> None:
    (line,) = make(*SMALL, f"sampler={name}", "epochs=1").messages
    assert line.startswith(f"note: sampler={name} knows no losses in the first epoch, and this run has no other.")
    assert not make(*SMALL, f"sampler={name}").messages
    assert not make(*SMALL, "sampler=curriculum", "sampler.ranking=random", "epochs=1").messages


# Repeated


def test_a_batch_holds_the_copies_of_its_samples_in_random_order_and_one_copy_is_shuffle() -> None:
    order, shuffled = Repeated(3).order(split(100), 7, 12), Shuffle().order(split(100), 7)
    in_a_row = shuffled[:34].repeat_interleave(3)[:100]
    for drawn, expected in zip(order.split(12), in_a_row.split(12), strict=True):
        assert torch.equal(drawn.sort().values, expected.sort().values)
    assert torch.equal(Repeated(1).order(split(100), 7, 12), shuffled)
    run = make(*SMALL, "sampler=repeated", "sampler.copies=2", "technique=crop")
    seen = seen_by_model(run, next(run.batches(0)))
    pairs = seen["index"].argsort(stable=True)
    assert torch.equal(seen["index"][pairs[::2]], seen["index"][pairs[1::2]])
    assert not torch.equal(seen["x"][pairs[::2]], seen["x"][pairs[1::2]]), "the copies are augmented differently"


def test_mixup_and_cutmix_seldom_mix_a_sample_with_its_own_copy() -> None:
    batches = Repeated(3).order(split(9000), 0, 60).split(60)
    same = torch.cat([batch == batch.roll(1) for batch in batches]).double().mean()
    assert abs(same.item() - 2 / 59) < 0.01, "two of the 59 others are copies"


# Pools


def test_a_pool_is_drawn_evenly_and_a_pool_of_all_samples_is_a_permutation() -> None:
    ranking = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn_from(ranking, [50] * 13, 4, 9), Shuffle().order(split(50), 9))
    found = drawn_from(ranking, [10] * 6 + [50] * 7, 4, 9)
    assert len(found) == 50
    first = torch.bincount(found[:24], minlength=50)
    assert set(found[:24].tolist()) == set(ranking[:10].tolist())
    assert (int(first[ranking[:10]].min()), int(first.max())) == (2, 3)
    assert sorted(drawn_from(ranking, [3] * 5, 10, 0)[:9].bincount(minlength=50)[ranking[:3]].tolist()) == [3, 3, 3]


def test_a_balanced_ranking_spreads_every_class_evenly() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    difficulty = torch.rand(100, generator=torch.Generator().manual_seed(0)) + labels  # later classes are harder
    order = ranked(difficulty, 0, labels)
    for size in (10, 30, 50, 100):
        shares = torch.bincount(labels[order[:size]], minlength=3)
        assert (shares - torch.tensor([0.6, 0.3, 0.1]) * size).abs().max() <= 1
    for c in range(3):
        mine = order[labels[order] == c]
        assert torch.equal(mine, mine[difficulty[mine].argsort()])
    assert torch.equal(difficulty[ranked(difficulty, 0)], difficulty.sort().values)
    assert not torch.equal(ranked(torch.zeros(100), 0), torch.arange(100))


# Curriculum


def theirs(name: str, num: int, a: float, b: float, t: float, total: float) -> float:
    """The pacing functions as in the code of Wu et al. (google-research/understanding-curricula), by their names."""
    if t >= a * total:
        return num
    if name in ("linear", "quadratic", "root"):
        power = {"linear": 1, "quadratic": 2, "root": 0.5}[name]
        return num * b + num * (1 - b) / (a * total) ** power * t**power
    if name == "exponential":
        return num * b + num * (1 - b) / (math.exp(10) - 1) * (math.exp(10 * t / (a * total)) - 1)
    if name == "logarithmic":
        return num * b + num * (1 - b) * (1 + 0.1 * math.log(t / (a * total) + math.exp(-10)))
    return num * b


def build_curriculum(**settings: Any) -> Any:
    node = plain(compose(["sampler=curriculum"]))["sampler"]
    return create({**node, **settings}, "sampler")


@pytest.mark.parametrize("pacing", PACINGS)
def test_the_pool_grows_as_in_the_source(pacing: str) -> None:
    sampler = build_curriculum(pacing=pacing, start=0.1, full_at=0.7)
    for i in range(101):
        expected = min(max(theirs(pacing, 1000, 0.7, 0.1, i, 100), 16), 1000)
        assert sampler.size(i / 100, 1000, 16) == math.ceil(expected - 1e-6), i


def test_scores_in_a_file_decide_what_is_drawn_first(tmp_path: Path) -> None:
    difficulty = np.random.default_rng(0).random(96)
    np.save(tmp_path / "scores.npy", difficulty)
    np.savetxt(tmp_path / "scores.txt", difficulty)
    for name in ("scores.npy", "scores.txt"):
        given = ["sampler=curriculum", f"sampler.scores={tmp_path / name}", "sampler.balanced=false"]
        run = make(*SMALL, *given, "sampler.full_at=0.6")
        assert not learns(run.source.sampler)
        assert "sampler" not in run.state
        orders = [run.source.order(epoch) for epoch in range(5)]
        reached = [int(np.argsort(np.argsort(difficulty))[order.numpy()].max()) + 1 for order in orders]
        assert reached[0] < 0.6 * 96
        assert reached == sorted(reached)
        assert all(torch.equal(orders[i].sort().values, torch.arange(96)) for i in (3, 4))
        at = [run.source.sampler.size(i / 30, 96, 16) for i in range(6)]
        for i, size in enumerate(at):
            assert max(np.argsort(np.argsort(difficulty))[orders[0][16 * i : 16 * (i + 1)].numpy()]) < size
    hard = make(*SMALL, *given, "sampler.ranking=hard")
    assert difficulty[hard.source.order(0)[:16].numpy()].min() > np.quantile(difficulty, 0.7)


def test_a_teachers_losses_are_the_difficulty(tmp_path: Path) -> None:
    mltricks.train(mltricks.compose(["model=mlp", "epochs=1", "data.limit=96", "progress=none"]), tmp_path / "teacher")
    run = make(*SMALL, "sampler=curriculum", f"sampler.teacher={tmp_path / 'teacher'}", "sampler.balanced=false")
    model = mltricks.load(tmp_path / "teacher")
    probabilities = model.predict(run.data.train.x.permute(0, 3, 1, 2))
    losses = F.nll_loss(probabilities.log(), run.data.train.y.cpu(), reduction="none")
    torch.testing.assert_close(run.source.sampler.fixed["difficulty"], losses, atol=1e-4, rtol=1e-4)
    pool = run.source.sampler.size(0.0, 96, 16)
    assert losses[run.source.order(0)[:16]].max() <= losses.sort().values[pool - 1] + 1e-4


def test_the_whole_pool_is_shuffle_bit_for_bit() -> None:
    plain_run = make(*SMALL)
    for off in (["sampler=curriculum", "sampler.start=1"], ["sampler=self_paced", "sampler.start=1"]):
        run = make(*SMALL, *off)
        assert advance(run, 12) == advance(make(*SMALL), 12)
        assert torch.equal(run.source.order(1), plain_run.source.order(1))


def test_the_run_s_own_losses_are_the_difficulty_after_an_epoch() -> None:
    run = make(*SMALL, "sampler=curriculum", "sampler.balanced=false", "sampler.full_at=1", "sampler.start=0.3")
    assert torch.equal(run.source.order(0).sort().values, torch.arange(96))
    advance(run, 6)
    losses = run.state["sampler"]["now"]["loss"].cpu()
    assert bool(losses.isfinite().all())
    order = run.source.order(1, run.state["sampler"]["now"])
    pool = run.source.sampler.size(1 / 5, 96, 16)
    assert losses[order[:16]].max() <= losses.sort().values[pool - 1]


REFUSED = {
    "sampler.scores=a.txt sampler.teacher=b": r"sampler\.scores and sampler\.teacher are two rankings",
    "sampler.scores=a.txt sampler.ranking=random": r"sampler\.scores and sampler\.ranking=random are two rankings",
    "sampler.scores=a.txt": r"sampler\.scores=a\.txt cannot be read: .*one number a line",
    "sampler.teacher=nowhere": r"sampler\.teacher=nowhere: there are no weights at nowhere",
    "sampler.start=0": r"sampler\.start=0 is out of range",
    "sampler.pacing=slow": r"sampler\.pacing=slow is not an option",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_wrong_curricula_are_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[typed]):
        make(*SMALL, "sampler=curriculum", *typed.split())


def test_scores_of_another_number_and_targets_without_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"holds \(2,\) numbers; one finite number for each of the 96"):
        make(*SMALL, "sampler=curriculum", f"sampler.scores={tmp_path / 's.txt'}")
    values = MemorySplit(torch.zeros(8, 2), torch.rand(8))
    with pytest.raises(ValueError, match=r"sampler=self_paced draws by class.*Type sampler\.balanced=false\."):
        SelfPaced(0.5, 1.3, True).order(values, 0, 1, 2, {"loss": torch.zeros(8)})


# Self-paced


def test_the_share_of_self_paced_grows_by_a_factor() -> None:
    sampler = SelfPaced(0.5, 1.3, False)
    assert [sampler.share(e) for e in range(5)] == pytest.approx([1.0, 0.5, 0.65, 0.845, 1.0])
    losses = torch.rand(100, generator=torch.Generator().manual_seed(0))
    drawn = sampler.order(split(100), 3, 1, 10, {"loss": losses})
    assert set(drawn.tolist()) == set(losses.argsort()[:50].tolist())
    assert torch.bincount(drawn, minlength=100).max() == 2
    balanced = SelfPaced(0.5, 1.3, True).order(split(99), 3, 1, 10, {"loss": losses[:99]})
    assert torch.bincount(torch.arange(99)[balanced.unique()] % 3).sort().values.tolist() == [16, 17, 17]


# Importance


def test_the_expected_weighed_gradient_is_the_uniform_one() -> None:
    """Exactly, as the sum over all samples of p_i w_i g_i, and by the real step on batches that were drawn."""
    run = make(*SMALL, "sampler=importance", "model.width=4")
    advance(run, 6)
    own = {"loss": run.state["sampler"]["now"]["loss"].cpu()}
    sampler, data = run.source.sampler, run.data.train
    p, w = sampler.probabilities(own), sampler.weights(own)
    assert float(p.sum()) == pytest.approx(1)
    assert float(w.max()) <= 1 / 0.2 + 1e-4
    params = {name: t.detach().clone().requires_grad_() for name, t in run.state["params"].items()}
    x = run.data.info.normalize(data.x.permute(0, 3, 1, 2))
    losses = F.cross_entropy(torch.func.functional_call(run.model.module, params, (x,)), data.y, reduction="none")
    weighed = torch.autograd.grad((p.float() * w * losses).sum(), list(params.values()), retain_graph=True)
    uniform = torch.autograd.grad(losses.mean(), list(params.values()))
    for a, b in zip(weighed, uniform, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    draws = torch.cat([sampler.order(data, seed, own) for seed in range(300)])
    counts = torch.bincount(draws, minlength=96)
    assert float(((counts - p * len(draws)).square() / (p * len(draws))).sum()) < 144  # 95 degrees, p = 0.001


def test_the_weights_reach_the_loss_and_its_gradient() -> None:
    run = make(*SMALL, "sampler=importance", "optim.lr=0.1", "optim.momentum=0", "optim.weight_decay=0")
    advance(run, 6)
    own = {"loss": run.state["sampler"]["now"]["loss"].cpu()}
    batch = next(run.batches(6))
    torch.testing.assert_close(batch["weight"].cpu(), run.source.sampler.weights(own)[batch["index"].cpu()])
    before = {name: p.detach().clone().requires_grad_() for name, p in run.state["params"].items()}
    x = run.data.info.normalize(batch["x"])
    losses = F.cross_entropy(torch.func.functional_call(run.model.module, before, (x,)), batch["y"], reduction="none")
    loss = (losses * batch["weight"]).mean()
    found = torch.autograd.grad(loss, list(before.values()))
    assert advance(run, 1, 6) == pytest.approx([loss.item()], rel=1e-5)
    for (name, b), g in zip(before.items(), found, strict=True):
        torch.testing.assert_close(run.state["params"][name], b.detach() - 0.1 * g, atol=1e-6, rtol=1e-5)


def test_uniform_losses_give_weights_of_one_and_no_correction_leaves_losses_as_they_are() -> None:
    sampler = Importance(0.2, 1.0)
    assert torch.equal(sampler.weights(sampler.setup(split(7))), torch.ones(7))
    uneven = {"loss": torch.tensor([-1.0, 1.0, 3.0])}
    assert sampler.probabilities(uneven).tolist() == pytest.approx([1 / 3, 0.2, 0.46666], abs=1e-4)
    assert torch.equal(Importance(0.2, 0.0).weights(uneven), torch.ones(3))


def test_techniques_that_change_the_number_of_rows_are_told() -> None:
    with pytest.raises(ValueError, match=r"weighs 2 samples, and a technique makes a batch of 4"):
        weighed(torch.ones(4), torch.ones(2))


# All of them


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize("name", ["curriculum", "self_paced", "importance", "repeated"])
def test_a_run_resumes_bit_for_bit(name: str, engine: str, tmp_path: Path) -> None:
    overrides = [*SMALL, f"sampler={name}", f"engine={engine}", "technique=accumulate"]
    whole, part = make(*overrides), make(*overrides)
    losses = advance(whole, 16)
    advance(part, 8)
    other: Run = resumed(part, tmp_path, *overrides)
    assert advance(other, 8, 8) == losses[8:]
    assert_same(whole.state, other.state)


def test_traced_equals_eager() -> None:
    for name in ("curriculum", "importance"):
        eager, traced = make(*SMALL, f"sampler={name}"), make(*SMALL, f"sampler={name}", "engine=traced")
        assert advance(traced, 14) == pytest.approx(advance(eager, 14), abs=1e-5)
        assert largest_difference(eager.state, traced.state) < 1e-4


def test_only_samplers_that_learn_are_kept_out_of_stacks(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros(96))
    for typed, learning in (
        (["sampler=curriculum"], True),
        (["sampler=curriculum", "sampler.ranking=random"], False),
        (["sampler=curriculum", f"sampler.scores={tmp_path}/s.npy"], False),
        (["sampler=importance"], True),
        (["sampler=repeated"], False),
    ):
        cfgs = [make(*SMALL, *typed, f"seed={seed}").cfg for seed in range(2)]
        assert ("learns from losses" in str(fusable(cfgs))) == learning
