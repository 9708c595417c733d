"""MoCo, Barlow Twins, SimSiam and siamese training: losses against lightly's and plain loops, keys, collapse."""

from __future__ import annotations

import copy
from itertools import islice, pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, sgd, small_net, train
from contract import make
from sklearn.metrics import pairwise_distances
from torch import Tensor, nn

from mltricks.build import Run
from mltricks.functional.pair_loss import pair_loss
from mltricks.functional.self_supervised import collapse, features_of
from mltricks.objectives.classify import Classify
from mltricks.state import reseed_step
from mltricks.techniques.accumulate import Accumulate
from mltricks.techniques.barlow_twins import redundancy
from mltricks.techniques.ema import Ema
from mltricks.techniques.moco import Moco, info_nce
from mltricks.techniques.siamese import balanced
from mltricks.techniques.simclr import nt_xent
from mltricks.techniques.simsiam import Simsiam, negative_cosine

VIEWS: dict[str, Any] = {
    **{"min_scale": 0.3, "flip": True, "color": 0.4},
    **{"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
    **{"p_jitter": None, "p_grey": None, "p_blur": None},
}
MOCO: dict[str, Any] = {
    **VIEWS,
    **{"temperature": 0.1, "momentum": 0.9, "queue_size": 24, "norm_splits": 1, "projection_width": 6, "probe": True},
}


@pytest.fixture(scope="module")
def losses() -> ModuleType:
    return pytest.importorskip("lightly.loss")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_nt_xent_equals_lightlys(losses: ModuleType) -> None:
    z = normal(12, 5)
    torch.testing.assert_close(nt_xent(z, 0.3)[0], losses.NTXentLoss(0.3)(z[:6], z[6:]))


def test_the_loss_against_a_queue_equals_lightlys_with_a_memory_bank(losses: ModuleType) -> None:
    theirs = losses.NTXentLoss(0.1, memory_bank_size=(8, 5))
    theirs(normal(8, 5, seed=9).requires_grad_(), normal(8, 5, seed=1))  # fills the bank
    query, key = normal(4, 5, seed=2).requires_grad_(), normal(4, 5, seed=3)
    q, k, queue = (F.normalize(z, dim=1) for z in (query, key, normal(8, 5, seed=1)))
    torch.testing.assert_close(info_nce(q, k, queue, 0.1)[0], theirs(query, key))


def test_barlow_equals_lightlys(losses: ModuleType) -> None:
    a, b = normal(16, 6), normal(16, 6) + normal(16, 6, seed=1)
    torch.testing.assert_close(redundancy(a, b, 0.0051)[0], losses.BarlowTwinsLoss(0.0051)(a, b))


def test_negative_cosine_equals_lightlys(losses: ModuleType) -> None:
    a, b = normal(7, 6), normal(7, 6, seed=1)
    torch.testing.assert_close(negative_cosine(a, b), losses.NegativeCosineSimilarity()(a, b))


def test_barlow_of_equal_uncorrelated_views_is_0() -> None:
    z = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 100  # large, so that the 1e-5 does not count
    loss, correlation = redundancy(z, z, 0.0051)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert float(correlation) == pytest.approx(1)
    doubled = torch.stack([z[:, 0], z[:, 0]], 1)  # two dimensions that say the same: C is all ones
    assert float(redundancy(doubled, doubled, 0.5)[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("margin", [1.0, 3.0])
def test_the_loss_of_all_pairs_equals_that_of_a_loop_over_scikit_learns_distances(margin: float) -> None:
    z, y = normal(9, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 3])
    d = pairwise_distances(z.double().numpy())
    kinds: dict[bool, list[tuple[float, bool]]] = {True: [], False: []}
    for i in range(9):
        for j in range(i):
            same = bool(y[i] == y[j])
            kinds[same].append(
                (d[i, j] ** 2 / 2 if same else max(0, margin - d[i, j]) ** 2 / 2, (d[i, j] < margin / 2) == same)
            )
    loss, metrics = balanced(z, y, margin)
    means = [[sum(c) / len(c) for c in zip(*found, strict=True)] for found in kinds.values()]
    assert float(loss) == pytest.approx(sum(m[0] for m in means) / 2, rel=1e-5)
    assert float(metrics["pair_accuracy"]) == pytest.approx(sum(m[1] for m in means) / 2)
    torch.testing.assert_close(balanced(z, y, torch.tensor(margin))[0], loss)


def test_a_batch_of_one_class_or_of_equal_samples_has_finite_gradients() -> None:
    for y in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        z = torch.zeros(4, 2, requires_grad=True)
        loss, _ = balanced(z, y, 1.0)
        assert float(loss.detach()) == pytest.approx(0.0 if y.sum() == 0 else 0.25, abs=1e-5)
        assert bool(torch.autograd.grad(loss, z)[0].isfinite().all())


def test_pair_loss_has_a_closed_form() -> None:
    d = torch.tensor([0.0, 0.5, 2.0])
    torch.testing.assert_close(pair_loss(d**2, torch.tensor([True] * 3), 1.0), d**2 / 2)
    torch.testing.assert_close(pair_loss(d**2, torch.tensor([False] * 3), 1.0), torch.tensor([0.5, 0.125, 0.0]))


def test_collapse_is_1_for_noise_and_0_for_equal_vectors() -> None:
    noise = collapse(normal(4000, 32))
    assert float(noise["feature_std"]) == pytest.approx(1, abs=0.02)
    assert float(noise["feature_rank"]) == pytest.approx(32, rel=0.03)
    same = collapse(normal(1, 32).expand(50, -1))
    assert float(same["feature_std"]) == pytest.approx(0, abs=1e-6)
    line = normal(50, 1) * normal(1, 32, seed=1)
    assert float(collapse(line)["feature_rank"]) == pytest.approx(1, rel=1e-4)


def trained(steps: int, **changes: Any) -> list[tuple[Any, dict[str, Tensor]]]:
    batches = [images(8, seed=i) for i in range(steps)]
    return train(small_net(norm=True), batches, sgd(0.1), moco=Moco(**{**MOCO, **changes}))


def test_the_queue_is_first_in_first_out() -> None:
    queues = [state["own"]["moco"]["queue"] for state, _ in trained(4)]
    for old, new in pairwise(queues):
        assert torch.equal(new[8:], old[:16])
        assert not bool((new[:8, None] == old[None]).all(2).any())
        torch.testing.assert_close(new[:8].norm(dim=1), torch.ones(8))
    assert torch.equal(queues[-1][16:], queues[1][:8])


def test_the_key_encoder_is_an_average_with_its_own_norm_statistics() -> None:
    batches = [images(8, seed=i) for i in range(5)]
    ema = Ema(decay=0.9, warmup=False)
    states = [s for s, _ in train(small_net(norm=True), batches, sgd(0.1), moco=Moco(**MOCO), ema=ema)]
    own = states[-1]["own"]
    assert own["moco"]["params"].keys() == own["ema"]["params"].keys() == states[-1]["params"].keys()
    for name, p in own["moco"]["params"].items():
        assert torch.equal(p, own["ema"]["params"][name]), name
    buffers = own["moco"]["buffers"]
    assert int(buffers["1.num_batches_tracked"]) == 5
    assert not torch.equal(buffers["1.running_mean"], states[-1]["buffers"]["1.running_mean"])


def test_micro_batches_leave_one_set_of_norm_statistics_and_the_whole_batch_of_keys() -> None:
    module, batches = small_net(norm=True), [images(8, seed=i) for i in range(2)]
    (state, _), (after, _) = train(module, batches, sgd(0.1), moco=Moco(**MOCO), accumulate=Accumulate(2))
    own = state["own"]["moco"]
    for name, buffer in module.named_buffers():
        assert own["buffers"][name].shape == buffer.shape
        assert own["buffers"][name].dtype == buffer.dtype
    assert torch.equal(after["own"]["moco"]["queue"][8:], own["queue"][:16])
    assert not torch.equal(own["buffers"]["1.running_mean"], after["own"]["moco"]["buffers"]["1.running_mean"])


def test_without_momentum_the_key_encoder_is_the_model() -> None:
    state, _ = trained(3, momentum=0.0)[-1]
    for name, p in state["own"]["moco"]["params"].items():
        assert torch.equal(p, state["params"][name])
    kept, _ = trained(3, momentum=1.0)[-1]
    assert torch.equal(kept["own"]["moco"]["params"]["0.weight"], small_net(norm=True)[0].weight)


class SplitBatchNorm(nn.BatchNorm2d):
    """That of the authors' CIFAR-10 notebook, in two parts, for training."""

    def forward(self, x: Tensor) -> Tensor:
        (n, c, h, w), mean, var = x.shape, self.running_mean.repeat(2), self.running_var.repeat(2)
        affine = self.weight.repeat(2), self.bias.repeat(2)
        y = F.batch_norm(x.view(-1, 2 * c, h, w), mean, var, *affine, True, self.momentum, self.eps)
        self.running_mean, self.running_var = mean.view(2, c).mean(0), var.view(2, c).mean(0)
        return y.view(n, c, h, w)


def test_steps_of_moco_are_those_of_a_plain_loop_with_lightlys_parts(
    losses: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queue, momentum, order of the keys, split norms and gradient, over more updates than the queue holds batches."""
    from lightly.models.utils import update_momentum

    views = [normal(16, 1, 8, 8, seed=i) for i in range(6)]

    def both(_: Moco, x: Tensor) -> Tensor:
        torch.manual_seed(step := int(x[0, 0, 0, 0]))  # of the order of the keys
        return views[step]

    monkeypatch.setattr(Moco, "both", both)
    technique = Moco(**{**MOCO, "norm_splits": 2, "probe": False})
    batches = [{"x": torch.full((8, 1, 8, 8), float(i)), "y": torch.zeros(8, dtype=torch.int64)} for i in range(6)]
    torch.manual_seed(3)
    ours = train(small_net(norm=True), batches, sgd(0.1, 0.9), moco=technique)

    torch.manual_seed(3)
    start, own = technique.setup(module := small_net(norm=True), params_of(module), batches[0], 0)
    head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6))
    head.load_state_dict({n.removeprefix("moco/"): p for n, p in start.items() if n.startswith("moco/")})
    plain = small_net(norm=True)
    query = nn.Sequential(plain[0], SplitBatchNorm(3), *plain[2:-1], head)
    encoder, optim = copy.deepcopy(query).requires_grad_(False), torch.optim.SGD(query.parameters(), 0.1, 0.9)
    criterion = losses.NTXentLoss(0.1, memory_bank_size=(24, 6))
    criterion.memory_bank.bank = own["queue"].view(3, 8, 6).flip(0).flatten(0, 1)  # which is overwritten from 0 on
    for step, (first, second) in enumerate(v.chunk(2) for v in views):
        torch.manual_seed(step)
        order = torch.rand(8).argsort()
        loss = criterion(query(first), encoder(second[order])[order.argsort()])
        optim.zero_grad()
        loss.backward()
        optim.step()
        update_momentum(query, encoder, 0.9)
        torch.testing.assert_close(ours[step][1]["contrastive_loss"], loss.detach())
    state = ours[-1][0]
    for trained, params in ((query, state["params"]), (encoder, state["own"]["moco"]["params"])):
        torch.testing.assert_close([*params_of(trained).values()], [p for n, p in params.items() if n[0] != "6"])
    torch.testing.assert_close(encoder[1].running_var, state["own"]["moco"]["buffers"]["1.running_var"])


def test_moco_watches_its_projection_where_features_spread_although_all_keys_are_the_same() -> None:
    module, batch = small_net(), images(8)
    technique = Moco(**{**MOCO, "momentum": 1.0, "probe": False})
    params, own = technique.setup(module, params_of(module), batch, 0)
    params["moco/2.weight"] = torch.zeros_like(params["moco/2.weight"])
    ctx = context(module, {"moco": own}).scope("moco")
    _, aux = technique.loss(Classify())(params, batch, ctx)
    assert float(collapse(features_of("moco", params, batch["x"], ctx))["feature_std"]) > 0.3
    assert float(aux["metrics"]["feature_std"]) == pytest.approx(0, abs=1e-6)


def keys_and_queries(norm_splits: int) -> tuple[Tensor, Tensor]:
    """The keys and the queries of one batch by equal encoders, without views."""
    module, batch = small_net(norm=True), images(8)
    technique = Moco(**{**MOCO, "norm_splits": norm_splits})
    params, own = technique.setup(module, params_of(module), batch, 0)
    ctx = context(module, {"moco": own}).scope("moco")
    keys, buffers = technique.keys(params, batch["x"], ctx)
    queries = technique.projected(params, features_of("moco", params, batch["x"], ctx))
    assert torch.equal(buffers["1.num_batches_tracked"], ctx.buffers["1.num_batches_tracked"])
    return keys, queries


def test_keys_come_back_in_the_order_of_their_queries() -> None:
    keys, queries = keys_and_queries(1)
    torch.testing.assert_close(keys, queries)


def test_keys_are_normed_beside_other_samples_than_their_queries() -> None:
    keys, queries = keys_and_queries(4)
    similarity = (keys * queries).sum(1)
    assert float(similarity.min()) < 0.999


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["technique.moco.queue_size=100"], r"queue_size=100 is no multiple of batch_size=16.*Type .*queue_size=96"),
        (["technique.moco.queue_size=8"], r"Type technique\.moco\.queue_size=16"),
        (["technique.moco.norm_splits=5"], r"norm_splits=5 does not divide.*Type technique\.moco\.norm_splits=4"),
        (["model=resnet9", "model.norm=ghost_batch"], r"technique=moco beside model\.ghost_splits splits twice"),
    ],
)
def test_moco_refuses_sizes_that_do_not_fit(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make("technique=moco", *overrides)


def test_barlow_refuses_solarize_on_images_that_are_no_pixels() -> None:
    with pytest.raises(ValueError, match=r"Type technique\.barlow_twins\.p_solarize_second=null"):
        make("technique=barlow_twins", "technique.barlow_twins.color=0.4")


def updates(run: Run, steps: int) -> dict[str, float]:
    """The metrics of the last of some updates."""
    metrics: dict[str, Tensor] = {}
    for i, batch in enumerate(islice(run.batches(0), steps)):
        reseed_step(0, i)
        run.state, metrics = run.step(run.state, batch, run.hypers.at(i))
    return {name: float(value) for name, value in metrics.items()}


def ends(stop_gradient: bool) -> dict[str, float]:
    """The mean metrics of the last updates of a small network trained by SimSiam with a large learning rate."""
    sizes = {"projector_layers": 2, "projection_width": 16, "predictor_width": 4}
    technique = Simsiam(**VIEWS, **sizes, stop_gradient=stop_gradient, probe=False)
    history = [m for _, m in train(small_net(norm=True), [images(16)] * 40, sgd(1.0, 0.9), simsiam=technique)]
    return {name: float(torch.stack([m[name] for m in history[20:]]).mean()) for name in history[0]}


def test_simsiam_collapses_without_stop_gradient() -> None:
    """To two opposite points at first: batch norm keeps it from one."""
    healthy, collapsed = ends(stop_gradient=True), ends(stop_gradient=False)
    assert healthy["feature_std"] > 0.9
    assert healthy["feature_rank"] > 1.3
    assert collapsed["feature_std"] < 0.7
    assert collapsed["feature_rank"] < 1.1
    assert collapsed["similarity_loss"] < healthy["similarity_loss"]


def test_no_gradient_flows_into_what_simsiam_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    import mltricks.techniques.simsiam as module

    seen: list[bool] = []
    plain = module.negative_cosine
    monkeypatch.setattr(module, "negative_cosine", lambda p, z: (seen.append(z.requires_grad), plain(p, z))[1])
    updates(make("technique=simsiam"), 1)
    assert seen == [False, False]


def test_the_views_of_simsiam_pass_the_norms_one_after_the_other() -> None:
    run = make("technique=simsiam", "technique.simsiam.probe=false", "model.norm=batch")
    updates(run, 1)
    tracked = [int(b) for name, b in run.state["buffers"].items() if name.endswith("num_batches_tracked")]
    assert set(tracked) == {2}


@pytest.mark.parametrize("name", ["moco", "barlow_twins", "simsiam", "siamese"])
def test_only_the_probe_reads_labels_except_for_siamese_pairs(name: str) -> None:
    """The weights below the head move alike for other labels; those of siamese training do not."""
    runs = [make(f"technique={name}", "optim=sgd", "optim.lr=0.1") for _ in range(2)]
    batch = next(runs[0].source.stream(0))
    reseed_step(0, 0)
    a, _ = runs[0].step(runs[0].state, batch, runs[0].hypers.at(0))
    reseed_step(0, 0)
    b, _ = runs[1].step(runs[1].state, {**batch, "y": batch["y"].roll(1)}, runs[1].hypers.at(0))
    below = [p for p in a["params"] if not p.startswith("head")]
    assert below
    assert all(torch.equal(a["params"][p], b["params"][p]) for p in below) is (name != "siamese")


def test_siamese_learns_on_vectors_and_needs_classes() -> None:
    shared = ["technique=siamese", "data=custom", "allow_modules=[contract_data]", "model=mlp"]
    run = make(*shared, "data._target_=contract_data.Blobs", "optim.lr=0.03")
    assert updates(run, 60)["pair_accuracy"] > 0.95
    with pytest.raises(ValueError, match="technique=siamese"):
        make(*shared, "data._target_=contract_data.Slope", "objective=regress")


def test_a_collapse_is_seen_in_the_table_and_warned_about() -> None:
    from mltricks.observers.closing import warnings
    from mltricks.observers.epoch_table import EpochTable
    from mltricks.summary import Summary

    train_record = {"split": "train", "epoch": 1, "loss": 1.0, "feature_std": 0.012, "lr": 0.1}
    val = {"split": "val", "epoch": 1, "loss": 1.0, "accuracy": 0.5}
    lines = EpochTable(1, "accuracy", 80).lines(train_record, val, 1.0, None, True)
    assert "feat.std" in lines[1]
    assert "0.012" in lines[2]
    goal = {"name": "val/accuracy", "direction": "maximize"}
    found = Summary("completed", objective=goal, train={"loss": 1.0, "feature_std": 0.012})
    said = "the features of all samples are nearly the same: feature_std 0.0120, and 0 is collapse"
    assert warnings(found, 10) == [said]
    assert not warnings(Summary("completed", objective=goal, train={"feature_std": 0.3}), 10)


@pytest.mark.parametrize("name", ["simclr", "moco", "siamese", "denoising_autoencoder"])
def test_without_a_probe_a_loss_behind_it_is_refused_and_one_before_it_is_not(name: str) -> None:
    alone = f"technique.{name}.probe=false"
    with pytest.raises(ValueError, match=rf"{alone} leaves the loss of l1, .* Put l1 before {name} if"):
        make(f"technique=[{name},l1]", alone)
    make(f"technique=[{name},l1]")
    make(f"technique=[{name},ema]", alone)
    make(f"technique=[l1,{name}]", alone)
