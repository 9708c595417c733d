"""Layers that learn later: in which order, by how much at first, and what their batch norms do until then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from bare import context, images, sgd, small_net, train
from contract import advance, assert_same, make
from torch import Tensor, nn

from mltricks.build import Run
from mltricks.functional.held_norm import HELD, hold
from mltricks.functional_model import FunctionalModel
from mltricks.objectives.classify import Classify
from mltricks.optim.adam import Adam
from mltricks.state import State, map_state
from mltricks.step import build_step
from mltricks.technique import Technique
from mltricks.techniques.freeze_then_unfreeze import FreezeThenUnfreeze
from mltricks.techniques.gradual_unfreezing import GradualUnfreezing

GHOST = "ghost_batch_norm"
HERE = Path(__file__).parent
BLOCKS = ["blocks.3", "blocks.2", "blocks.1", "blocks.0"]
RESNET18 = [f"layer{k}.{i}" for k in (4, 3, 2, 1) for i in (1, 0)]
PACE = "technique.gradual_unfreezing.epochs_per_layer=0.1667"  # an epoch of this text has 6 updates
TEXT = ("data=text", f"data.path={HERE}/contract_data.py", "data.length=8", "model.depth=4", "model.heads=2", PACE)
ORDERS = {
    "mlp": (["model=mlp", "model.depth=2"], ["head", "hidden.2", "hidden.0"]),
    "vit": (["model=vit", "model.depth=4"], ["head", *BLOCKS, "patches", "position_embedding"]),
    "transformer": (TEXT, [*BLOCKS, "position_embedding", "token_embedding"]),
    "resnet9": (
        ["model=resnet9"],
        ["head", "layer3.1.branch", "layer3.0", "layer2.0", "layer1.1.branch", "layer1.0", "prep.0"],
    ),
    "resnet18": (
        ["model=torchvision", "model.name=resnet18", "data.limit=80", "batch_size=4"],
        ["fc", *RESNET18, "conv1"],
    ),
}
"""Models with their layers from the top, as a reader of the model's source would list them."""


def copies(run: Run) -> dict[str, Tensor]:
    return map_state(torch.clone, run.state["params"])


def steps(run: Run, num: int) -> Iterator[set[str]]:
    """Make updates one by one; yield the names of the parameters that each of them changed."""
    for i in range(num):
        before = copies(run)
        advance(run, 1, i)
        yield {name for name, p in run.state["params"].items() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("name", ORDERS)
def test_layers_unfreeze_from_the_top_in_the_order_of_the_model(name: str) -> None:
    overrides, order = ORDERS[name]
    every_update = "technique.gradual_unfreezing.epochs_per_layer=0.05"  # an epoch has 20
    run = make("technique=gradual_unfreezing", every_update, *overrides)
    seen: list[str] = []
    for changed in steps(run, len(order)):
        new = [
            layer
            for layer in order
            if layer not in seen and any(p.startswith(f"{layer}.") or p == layer for p in changed)
        ]
        assert len(new) == 1
        seen += new
    assert seen == order


@pytest.mark.parametrize("optim", ["sgd optim.momentum=0.9", "adamw", "muon", "lion", "lars"])
def test_frozen_layers_stay_bit_for_bit_until_their_time(optim: str) -> None:
    run = make("technique=freeze_then_unfreeze", f"optim={optim.split()[0]}", *optim.split()[1:], "max_steps=10")
    top = {"head.weight", "head.bias"}
    for i, changed in enumerate(steps(run, 10)):
        assert changed == (top if i < 2 else set(run.state["params"])), "frozen_frac=0.2 of 10 updates"


def test_a_layer_that_is_frozen_for_the_whole_run_learns_nothing_and_the_others_as_with_freeze() -> None:
    plain = ("optim=sgd", "model=resnet9", "model.width=2", "max_steps=100", "epochs=5")
    later = make("technique=freeze_then_unfreeze", "technique.freeze_then_unfreeze.norms=fixed", *plain)
    never = make("technique=freeze", *plain)
    assert advance(later, 20) == pytest.approx(advance(never, 20), rel=1e-6)
    torch.testing.assert_close(later.state["params"], never.state["params"])
    assert_same({n: later.state["buffers"][n] for n in never.state["buffers"]}, never.state["buffers"])
    advance(later, 1, 20)
    assert all(not torch.equal(b, later.state["buffers"][n]) for n, b in never.state["buffers"].items())


@dataclass(frozen=True)
class Sum(Technique):
    """A loss whose gradient is 1 for every parameter."""

    def loss(self, inner):
        return lambda params, batch, ctx: (sum(p.sum() for p in params.values()), {"metrics": {}})


def test_the_first_updates_of_an_unfrozen_layer_are_ordinary_ones() -> None:
    """With a constant gradient, every update of Adam is lr: also where the layer was frozen for 50 updates."""
    adam = Adam(lr=0.1, weight_decay=0.0, no_decay=[], groups=None, beta1=0.9, beta2=0.999, eps=1e-8)
    late = FreezeThenUnfreeze(norms="fixed", frozen_frac=0.5, include=["0*"], exclude=[])
    net = small_net()
    before, own = {name: p.detach().clone() for name, p in net.named_parameters()}, {}
    _, own["late"] = late.setup(net, before, images(2), 0)
    step = build_step(FunctionalModel(net), Classify(), {"late": late, "sum": Sum()}, adam, lambda x: x, 4)
    state = {"params": before, "buffers": {}, "opt": adam.init(before), "own": {**own, "sum": {}}}
    state["step"] = torch.zeros((), dtype=torch.int64)
    for i in range(60):
        old = state["params"]["0.weight"]
        state, _ = step(state, images(2), {"progress": i / 100, "optim": {}})
        expected = old - (0.1 if i >= 50 else 0.0)
        torch.testing.assert_close(state["params"]["0.weight"], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("norms", ["fixed", "adapt", "train"])
def test_norms_of_frozen_layers_do_as_told_until_they_unfreeze(norms: str) -> None:
    run = make(
        *("technique=freeze_then_unfreeze", f"technique.freeze_then_unfreeze.norms={norms}", "max_steps=4"),
        *("technique.freeze_then_unfreeze.frozen_frac=0.5", "model=resnet9", "model.width=2"),
    )
    mean, scale = "prep.1.running_mean", "prep.1.weight"
    for i in range(4):
        before, old = run.state["buffers"][mean].clone(), run.state["params"][scale].clone()
        advance(run, 1, i)
        assert torch.equal(before, run.state["buffers"][mean]) == (norms == "fixed" and i < 2)
        assert torch.equal(old, run.state["params"][scale]) == (norms != "train" and i < 2)


def act_norm() -> nn.Module:
    return timm.layers.BatchNormAct2d(3)


@pytest.mark.parametrize(
    "kind", [partial(nn.BatchNorm2d, 3), act_norm, partial(nn.InstanceNorm2d, 3, track_running_stats=True)]
)
@pytest.mark.parametrize("held", [False, True])
def test_a_held_norm_is_in_evaluation_mode_and_another_in_training_mode(kind: type, held: bool) -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    norm, other = kind(), kind()
    for one in (norm, other):
        one.running_mean.fill_(0.3)
    hold(norm, x.device)
    norm.held.fill_(held)
    other.train(not held)
    torch.testing.assert_close(norm(x), other(x), rtol=0, atol=0)
    assert_same({n: b for n, b in norm.named_buffers() if n != HELD}, dict(other.named_buffers()))
    assert norm.training


def test_nothing_is_frozen_where_no_time_is_given() -> None:
    def trained(**techniques: Technique) -> State:
        return train(small_net(norm=True), [images(8)] * 3, sgd(0.1), **techniques)[-1][0]

    plain = trained()
    for norms in ("fixed", "adapt", "train"):
        late = trained(late=FreezeThenUnfreeze(norms, 0.0, ["*"], ["last_layer"]))
        assert_same(late["params"], plain["params"])
        assert_same({name: late["buffers"][name] for name in plain["buffers"]}, plain["buffers"])


def test_without_epochs_it_is_refused() -> None:
    ctx = context(small_net())
    with pytest.raises(ValueError, match=r"technique=gradual_unfreezing counts epochs\. .*steps_per_epoch=N"):
        GradualUnfreezing("fixed", 1.0).is_frozen(torch.ones(()), ctx)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["technique=freeze_then_unfreeze", "technique.freeze_then_unfreeze.include=hed.*"], "hed.*, which matches no"),
        (["technique=freeze_then_unfreeze", "technique.freeze_then_unfreeze.exclude=*"], "freezes nothing"),
        (["technique=gradual_unfreezing", "model=mlp", "model.depth=0"], "a single layer"),
        (["technique=freeze+gradual_unfreezing"], "gradual_unfreezing has no effect: .* frozen for the whole run"),
        (["technique=freeze_then_unfreeze+freeze"], "freeze_then_unfreeze has no effect: .* Leave it or technique=fre"),
    ],
)
def test_what_would_freeze_nothing_is_refused(overrides: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(*overrides)


def test_a_run_that_ends_before_all_layers_learn_is_told() -> None:
    run = make("technique=gradual_unfreezing", "model=mlp", "model.depth=3", "epochs=3")
    (note,) = [message for message in run.messages if "gradual_unfreezing" in message]
    assert note.endswith("=1: the lowest of the 4 layers would learn from epoch 3 on, and the run has 3. Type "
                         "technique.gradual_unfreezing.epochs_per_layer=0.75, or more epochs.")  # fmt: skip
    assert not make("technique=gradual_unfreezing", "model=mlp", "model.depth=3", "epochs=4").messages


def test_some_layers_may_be_frozen_for_good() -> None:
    held = ("technique.freeze.include=[first]", "model=mlp", "model.depth=2")
    run = make("technique=freeze+gradual_unfreezing", *held)
    first = {"hidden.0.weight"}
    assert run.frozen == first, "the others learn in their turn"
    before = map_state(torch.clone, run.state["params"])
    advance(run, 2)
    assert all(torch.equal(before[name], run.state["params"][name]) for name in first)
    assert any(not torch.equal(before[name], p) for name, p in run.state["params"].items() if name not in first)


@pytest.mark.parametrize("held", ["gradual_unfreezing", "freeze_then_unfreeze"])
def test_ghost_batch_norm_is_held_in_either_order(held: str) -> None:
    model = ("model=resnet9", "model.width=2", "model.pool=mean", "technique.ghost_batch_norm.splits=2")
    fixed = (*model, f"technique.{held}.norms=fixed")
    first, second = (make(f"technique=[{a},{b}]", *fixed) for a, b in ((held, GHOST), (GHOST, held)))
    before = map_state(torch.clone, first.state["buffers"])
    assert advance(first, 2) == advance(second, 2)
    assert_same(first.state["buffers"], second.state["buffers"])
    assert torch.equal(before["prep.1.running_mean"], first.state["buffers"]["prep.1.running_mean"])
