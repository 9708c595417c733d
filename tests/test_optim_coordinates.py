"""What learning rate and weight decay count in: batch scaling, and coordinates that move one at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import assert_same
from test_optim import SMALL, advance, build_small, make

import mltricks
from mltricks import show
from mltricks.config.compose import plain
from mltricks.config.newer import with_newer
from mltricks.launch.check import check_parts
from mltricks.optim.coordinates import SETTINGS
from mltricks.probes.lr_find import lr_find
from mltricks.stack.run import train_stacked
from mltricks.technique import floats_of


def floats(*overrides: str) -> dict[str, float]:
    """The floats that the optimiser of a run has; SMALL has batch_size=16."""
    return floats_of(build_small(*overrides).optim)


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 0.25), ("sqrt", 0.5)])
def test_all_learning_rates_scale_with_the_batch(rule: str, factor: float) -> None:
    scaled = ["optim=muon", "model.depth=2", f"optim.scale_lr={rule}", "optim.base_batch=64"]
    found = floats(*scaled, "optim.lr=0.5", "optim.adam_lr=0.25", "optim.weight_decay=0.125")
    assert (found["lr"], found["adam_lr"], found["weight_decay"]) == (0.5 * factor, 0.25 * factor, 0.125)


def test_micro_batches_do_not_change_the_batch_of_an_update() -> None:
    scaled = ["optim=sgd", "optim.lr=1", "optim.scale_lr=linear", "optim.base_batch=64"]
    assert floats(*scaled, "technique=accumulate", "technique.accumulate.num_micro=4")["lr"] == 0.25


def test_schedules_and_the_numbers_of_groups_scale_too() -> None:
    groups = "optim.groups={bias: {lr: 0.5, weight_decay: 0.25}, head: {lr: x2}}"
    scaled = ["optim=sgd", "optim.lr=1", "optim.scale_lr=linear", "optim.base_batch=64"]
    run = build_small(*scaled, groups, "scheduler=linear")
    assert run.hypers.values(0) == {("optim", "lr"): 0.25, ("optim", "groups.bias.lr"): 0.125}
    rules = {name: rule for names, rule in run.optim.parts(run.state["params"]) for name in names}
    assert (rules["head.bias"].weight_decay, rules["head.weight"].lr) == (0.25, 0.5)
    driven = build_small(*scaled[:1], *scaled[2:], "optim.lr={schedule: linear, start: 1.0, end: 0.5}")
    assert driven.hypers.values(driven.total_steps // 2)["optim", "lr"] == 0.25 * 0.75


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.75, 0.875])
@pytest.mark.parametrize("batch_size", [8, 32])
def test_the_invariants_of_a_decoupled_run(momentum: float, batch_size: int) -> None:
    """lr / (1 - momentum) / batch, and its product with the decay, do not depend on momentum and batch size."""
    changed = [f"optim.momentum={momentum}", f"batch_size={batch_size}"]
    scaled = ["optim.coordinates=decoupled", "optim.scale_lr=linear", "optim.base_batch=16"]
    found = floats("optim=sgd", *scaled, "optim.lr=0.5", "optim.weight_decay=0.0625", *changed)
    distance = found["lr"] / (1 - found["momentum"]) * 16 / batch_size
    assert distance == 0.5
    assert distance * found["weight_decay"] == 0.0625


@pytest.mark.parametrize("nesterov", ["true", "false"])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_a_constant_gradient_moves_a_weight_by_the_decoupled_rate(momentum: float, nesterov: str) -> None:
    settings = [f"optim.momentum={momentum}", f"optim.nesterov={nesterov}", "optim.coordinates=decoupled"]
    optim = build_small("optim=sgd", "optim.lr=0.25", *settings).optim
    params: dict[str, Any] = {"w": torch.zeros(2, dtype=torch.float64)}
    opt, grads, moved = optim.init(params), {"w": torch.ones(2, dtype=torch.float64)}, params
    for _ in range(400):
        params, (moved, opt) = moved, optim.update(grads, opt, moved)
    torch.testing.assert_close(params["w"] - moved["w"], 0.25 * grads["w"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("option", ["sgd", "adamw", "lion", "schedule_free", "schedule_free_sgd"])
def test_the_decoupled_decay_is_the_share_of_a_weight_that_an_update_takes(option: str) -> None:
    """Without gradient, after a long time; of the point of the gradient y = z where x is the same."""
    decoupled = ["optim.coordinates=decoupled", "optim.lr=0.25", "optim.weight_decay=1e-6"]
    optim = build_small(f"optim={option}", *decoupled).optim
    params = {"w": torch.ones(1, dtype=torch.float64)}
    opt, before = optim.init(params), params
    for _ in range(300):
        before, (params, opt) = params, optim.update({"w": torch.zeros(1, dtype=torch.float64)}, opt, params)
    step = before["w"] - params["w"]
    if "z" in opt:  # x trails behind: look at the sequence that the decay acts on
        step = (1.0 - opt["z"]["w"]) / 300
    assert float(step / before["w"]) == pytest.approx(1e-6, rel=1e-3)


EQUIVALENT = {
    "sgd": (
        ["optim.lr=0.5", "optim.momentum=0.75", "optim.weight_decay=0.0625"],
        ["optim.lr=0.125", "optim.momentum=0.75", "optim.weight_decay=0.125"],
    ),
    "adamw": (
        ["optim.lr=0.0078125", "optim.weight_decay=0.0009765625"],
        ["optim.lr=0.0078125", "optim.weight_decay=0.125"],
    ),
    "rmsprop": (
        ["optim.lr=0.0078125", "optim.momentum=0.75"],
        ["optim.lr=0.001953125", "optim.momentum=0.75"],
    ),
    "radam": (
        ["optim.decoupled_decay=true", "optim.lr=0.125", "optim.weight_decay=0.015625"],
        ["optim.decoupled_decay=true", "optim.lr=0.125", "optim.weight_decay=0.125"],
    ),
}


@pytest.mark.parametrize("option", EQUIVALENT)
def test_a_decoupled_run_equals_its_plain_equivalent_bit_for_bit(option: str) -> None:
    """Powers of two, so that the conversion rounds nothing."""
    typed, plainly = EQUIVALENT[option]
    one = build_small(f"optim={option}", *typed, "optim.coordinates=decoupled", "scheduler=cosine")
    other = build_small(f"optim={option}", *plainly, "scheduler=cosine")
    advance(one, 5)
    advance(other, 5)
    assert_same(one.state, other.state)


@pytest.mark.parametrize("option", ["sgd", "adamw"])
def test_the_options_with_decoupled_ranges_have_the_same_defaults(option: str) -> None:
    """To the last digits, as 1 - 0.9 is not 0.1."""
    decoupled, plainly = floats(f"optim={option}_decoupled", "batch_size=32"), floats(f"optim={option}")
    assert decoupled == {name: pytest.approx(value, rel=1e-15) for name, value in plainly.items()}


def test_the_decay_may_be_scheduled() -> None:
    decay = "optim.weight_decay={schedule: linear, start: 0.125, end: 0.0}"
    run = build_small("optim=adamw", "optim.lr=0.25", "optim.coordinates=decoupled", decay)
    assert run.hypers.values(0)["optim", "weight_decay"] == 0.5


REFUSED = {
    "optim=adam": r"decoupled means nothing for optim=adam: .*Type optim\.coordinates=plain\.",
    "optim=radam": r"means nothing for optim=radam.*or optim\.decoupled_decay=true",
    "optim=adagrad": "means nothing for optim=adagrad",
    "optim=lamb": "means nothing for optim=lamb",
    "optim=torch": "means nothing for optim=torch",
    "optim=lars": r"optim\.weight_decay=0\.0005 has no decoupled .* with optim=lars.*weight_decay=0 or optim\.coord",
    "optim=adamw optim.weight_decay=0.1 optim.lr=0": r"optim\.lr=0 is out of range\. Allowed: 0 < value",
    "optim=sgd optim.momentum=1": r"optim\.momentum=1 is out of range\. Allowed: 0 <= value < 1",
    "optim=sgd optim.scale_lr=linear optim.lr=-1": r"optim\.lr=-1 is out of range",
    "optim=rmsprop optim.weight_decay=0.1": "has no decoupled coordinate with optim=rmsprop",
    "optim=sgd optim.momentum={schedule: linear, start: 0.9, end: 0.5}": r"optim\.momentum=.* must be a number",
    "optim=sgd optim.weight_decay=1e-4 optim.lr={schedule: linear, start: 1, end: 0.5}": r"optim\.lr=.* must be a num",
    "optim=sgd scheduler=onecycle": r"scheduler drives optim\.momentum.*cycle_momentum=false",
    "optim=sgd optim.groups={bias: {lr: 0.5}}": r"groups\.bias\.lr=0\.5 has no decoupled .* as lr: x2",
    "optim=sgd optim.groups={bias: {momentum: x0.5}}": r"groups\.bias\.momentum=x0\.5 has no decoupled",
    "optim=sgd optim.scale_lr=quadratic": r"scale_lr=quadratic is not an option\. Allowed: none \| linear \| sqrt",
    "optim=sgd optim.base_batch=0": r"optim\.base_batch=0 is out of range",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_coordinates_without_a_meaning_are_refused(typed: str) -> None:
    words = typed.replace(" optim", "\0optim").replace(" scheduler", "\0scheduler").split("\0")
    cfg = plain(mltricks.compose(["optim.coordinates=decoupled", *words]))
    with pytest.raises(ValueError, match=REFUSED[typed]):
        check_parts(cfg)


def test_the_run_says_its_plain_values_once() -> None:
    typed = ["optim.lr=0.5", "optim.weight_decay=0.01", "optim.coordinates=decoupled", "optim.scale_lr=linear"]
    run = build_small("optim=sgd", *typed, "optim.base_batch=64")
    (line,) = (message for message in run.messages if "optimiser" in message)
    assert line.startswith(
        "note: the optimiser has lr=0.0125 weight_decay=0.02 (optim.lr=0.5 optim.weight_decay=0.01; "
    )
    assert line.endswith("optim.scale_lr=linear, batch_size=16, optim.base_batch=64; optim.coordinates=decoupled)")
    assert line.removeprefix("note: ") in "\n".join(show.describe(run))
    assert not [message for message in build_small("optim=sgd").messages if "optimiser" in message]


def test_the_trials_of_a_stack_have_their_own_plain_values() -> None:
    """Also where two stacks differ in the momentum alone, and every trial has the same plain learning rate."""
    shared = [*SMALL, "optim=sgd", "optim.coordinates=decoupled", "optim.weight_decay=0.01", "max_steps=5"]
    for pairs in ([(0.1, 0.9), (0.05, 0.8)], [(0.1, 0.8), (0.2, 0.9)]):
        typed = [[f"optim.lr={lr}", f"optim.momentum={momentum}"] for lr, momentum in pairs]
        found = train_stacked([plain(mltricks.compose([*shared, *own])) for own in typed])
        for result, own in zip(found, typed, strict=True):
            alone = build_small(*shared, *own)
            advance(alone, 5)
            for name, p in alone.state["params"].items():
                torch.testing.assert_close(result.state["params"][name], p, rtol=1e-4, atol=2e-5)


def test_the_rates_of_lr_find_are_those_to_type(tmp_path: Path) -> None:
    """An optim.lr of 1 is a plain rate of sqrt(16 / 4) (1 - 0.75) = 0.5, and the steps are equal."""
    rising = ["job=lr_find", "job.num_steps=20", "optim=sgd", "optim.momentum=0.75"]
    decoupled = [
        "optim.scale_lr=sqrt",
        "optim.base_batch=4",
        "optim.coordinates=decoupled",
        "job.low=1e-4",
        "job.high=1",
    ]
    found = []
    for name, more in (("plain", ["job.low=5e-5", "job.high=0.5"]), ("decoupled", decoupled)):
        lr_find(mltricks.compose([*SMALL, *rising, *more]), tmp_path, [name], "RUN")
        found.append(json.loads((tmp_path / "lr_find.json").read_text()))
    assert found[0]["losses"] == pytest.approx(found[1]["losses"], rel=1e-5)
    assert found[0]["rates"] == pytest.approx([0.5 * rate for rate in found[1]["rates"]])
    assert found[0]["suggestion"] == pytest.approx(0.5 * found[1]["suggestion"])


@pytest.mark.parametrize("option", ["sgd", "adamw", "muon", "torch"])
def test_a_configuration_saved_before_these_settings_is_completed(option: str) -> None:
    cfg = plain(mltricks.compose([*SMALL, f"optim={option}"]))
    before = {name: value for name, value in cfg["optim"].items() if name not in ("groups", *SETTINGS)}
    assert with_newer({**cfg, "optim": before})["optim"] == cfg["optim"]


def test_the_identity_without_settings() -> None:
    assert floats("optim=adamw") == floats_of(make("adamw"))
    assert math.isclose(floats("optim=adamw", "optim.scale_lr=sqrt", "optim.base_batch=16")["lr"], 3e-3)
