"""Optimisers against torch.optim, the authors' packages and formulas in float64: 200 updates on the same gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from conftest import TINY
from contract import advance
from test_optim import Params, make, model, random_gradients
from torch import Tensor

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.functional import foreach
from mltricks.launch.check import check_parts
from mltricks.predicting import batches_asked, norms_with_statistics, to_predict
from mltricks.state import leaves, map_state
from mltricks.technique import bind, floats_of

STEPS = 200
WAYS = {"pure": STEPS, "in place": STEPS, "tensors": 30, "unrolled": 30}
"""How an optimiser is called, and the number of updates that are compared."""
SMALL = {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.weight"}
"""A part of the model's parameters: a tensor of every shape."""


def start() -> Params:
    return {name: p.detach().double() for name, p in model().named_parameters() if name in SMALL}


@functools.cache
def gradients() -> list[Params]:
    return [{name: g.double() for name, g in grads.items()} for grads in random_gradients(start(), STEPS)]


def updated(optim: Any, way: str = "pure", rate: Callable[[int], float] | None = None) -> tuple[Params, Any]:
    """The weights after the updates of WAYS in float64, and the optimiser's tensors.

    Args:
        optim: the optimiser.
        way: how it is called.
        rate: the learning rate of an update; by default the configured one.
    """
    params, opt = start(), map_state(Tensor.double, optim.init(start()))
    if way in ("tensors", "unrolled"):
        exact = {name: torch.tensor(value, dtype=torch.float64) for name, value in floats_of(optim).items()}
        optim = bind(optim, exact)
    update = optim.update_in_place if way == "in place" else optim.update
    for step, grads in enumerate(gradients()[: WAYS[way]]):
        if rate is not None:
            update = bind(optim, {"lr": rate(step)}).update
        with foreach.unrolled() if way == "unrolled" else nullcontext():
            params, opt = update(map_state(torch.clone, grads), opt, params)
    return params, opt


def updated_by(make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], way: str = "pure") -> Params:
    """The weights after the same updates by an optimiser with torch's interface."""
    params = start()
    optimizer = make_optimizer(list(params.values()))
    for grads in gradients()[: WAYS[way]]:
        for name, p in params.items():
            p.grad = grads[name].clone()
        optimizer.step()
    return params


def farthest(ours: Params, theirs: Params) -> float:
    assert any(not torch.equal(theirs[name], p) for name, p in start().items()), "otherwise this proves nothing"
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


OF_TORCH: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "rmsprop": ({}, lambda ps: torch.optim.RMSprop(ps, lr=1e-3)),
    "rmsprop momentum centered decay": (
        {"alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1},
        lambda ps: torch.optim.RMSprop(ps, lr=1e-3, alpha=0.9, momentum=0.8, centered=True, weight_decay=0.1),
    ),
    "adagrad": ({}, lambda ps: torch.optim.Adagrad(ps, lr=1e-2)),
    "adagrad started decay": (
        {"lr_decay": 0.01, "initial_accumulator": 0.1, "weight_decay": 0.1},
        lambda ps: torch.optim.Adagrad(ps, lr=1e-2, lr_decay=0.01, initial_accumulator_value=0.1, weight_decay=0.1),
    ),
    "radam": ({"lr": 1e-3}, lambda ps: torch.optim.RAdam(ps, lr=1e-3)),
    "radam decay": ({"lr": 1e-3, "weight_decay": 0.1}, lambda ps: torch.optim.RAdam(ps, lr=1e-3, weight_decay=0.1)),
    "radam decoupled": (
        {"lr": 1e-3, "weight_decay": 0.1, "decoupled_decay": True, "beta2": 0.9, "beta1": 0.5},
        lambda ps: torch.optim.RAdam(ps, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True, betas=(0.5, 0.9)),
    ),
    "radam never rectified": (
        {"lr": 1e-3, "beta2": 0.6},
        lambda ps: torch.optim.RAdam(ps, lr=1e-3, betas=(0.9, 0.6)),
    ),
    "nadam": ({"lr": 1e-3}, lambda ps: torch.optim.NAdam(ps, lr=1e-3)),
    "nadam decay": ({"lr": 1e-3, "weight_decay": 0.1}, lambda ps: torch.optim.NAdam(ps, lr=1e-3, weight_decay=0.1)),
    "nadam decoupled": (
        {"lr": 1e-3, "weight_decay": 0.1, "decoupled_decay": True, "momentum_decay": 0.1},
        lambda ps: torch.optim.NAdam(ps, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True, momentum_decay=0.1),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", OF_TORCH)
def test_200_updates_equal_those_of_torch(case: str, way: str) -> None:
    """To 1e-10, as torch keeps NAdam's product of momenta in float32."""
    changes, theirs = OF_TORCH[case]
    assert farthest(updated(make(case.partition(" ")[0], **changes), way)[0], updated_by(theirs, way)) < 1e-10


def test_centered_rmsprop_of_a_constant_gradient_has_no_nan() -> None:
    """Its variance is 0, and rounding makes the difference of the averages negative, whose root torch takes."""
    optim, params = make("rmsprop", centered=True, alpha=0.3), {"w": torch.zeros(100)}
    opt, grads = optim.init(params), {"w": torch.linspace(0.1, 3.0, 100)}
    theirs = torch.optim.RMSprop([w := torch.zeros(100)], alpha=0.3, centered=True)
    for _ in range(40):
        params, opt = optim.update(grads, opt, params)
        w.grad = grads["w"].clone()
        theirs.step()
    assert params["w"].isfinite().all()
    assert w.isnan().any(), "otherwise this test proves nothing"


# LAMB and LARS


EXCLUDED = [i for i, p in enumerate(start().values()) if p.ndim < 2]


def split(ps: list[Tensor], **of_vectors: Any) -> list[dict[str, Any]]:
    """Two parameter groups: the matrices, and the vectors with settings of their own."""
    matrices = [p for i, p in enumerate(ps) if i not in EXCLUDED]
    return [{"params": matrices}, {"params": [ps[i] for i in EXCLUDED], **of_vectors}]


def timm_lamb(ps: list[Tensor], **settings: Any) -> torch.optim.Optimizer:
    """timm's, with its clipping of the gradient off; with a decay of 0 its vectors have no ratio."""
    from timm.optim import Lamb

    groups = split(ps, weight_decay=0.0, always_adapt=False)
    return Lamb(groups, max_grad_norm=None, always_adapt=True, **settings)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("way", WAYS)
def test_lamb_equals_that_of_timm(way: str, decay: float) -> None:
    ours, _ = updated(make("lamb", lr=1e-2, weight_decay=decay), way)
    assert farthest(ours, updated_by(lambda ps: timm_lamb(ps, lr=1e-2, weight_decay=decay), way)) < 1e-9


def lars_of_package(ps: list[Tensor], **settings: Any) -> torch.optim.Optimizer:
    """That of pytorch_optimizer, which leaves vectors without ratio and decay by itself."""
    from pytorch_optimizer import LARS

    return LARS(ps, foreach=False, **settings)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("way", WAYS)
def test_lars_equals_that_of_pytorch_optimizer_at_a_constant_rate(way: str, decay: float) -> None:
    ours, _ = updated(make("lars", lr=0.5, weight_decay=decay, trust=0.01), way)
    theirs = updated_by(lambda ps: lars_of_package(ps, lr=0.5, weight_decay=decay, trust_coefficient=0.01), way)
    assert farthest(ours, theirs) < 1e-9


@pytest.mark.parametrize("lr_in_momentum", [True, False])
def test_lars_with_a_changing_rate_equals_the_formulas(lr_in_momentum: bool) -> None:
    """Both forms of the momentum in float64, with every parameter adapted as in the paper."""
    optim = make("lars", weight_decay=0.1, trust=0.01, excluded=[], lr_in_momentum=lr_in_momentum)
    ours, _ = updated(optim, rate=lambda step: 2.0 / (1 + step))
    params = start()
    momenta = {name: torch.zeros_like(p) for name, p in params.items()}
    for step, grads in enumerate(gradients()):
        rate = 2.0 / (1 + step)
        for name, w in params.items():
            g, zero = grads[name], not w.norm() > 0
            local = 1.0 if zero else 0.01 * w.norm() / (g.norm() + 0.1 * w.norm())
            d = local * (g + 0.1 * w)
            momenta[name] = 0.9 * momenta[name] + (rate * d if lr_in_momentum else d)
            params[name] = w - (momenta[name] if lr_in_momentum else rate * momenta[name])
    assert farthest(ours, params) < 1e-12


@pytest.mark.parametrize("name", ["lamb", "lars"])
def test_a_zero_weight_or_gradient_leaves_the_ratio_at_one(name: str) -> None:
    optim = make(name, lr=0.1, weight_decay=0.0, excluded=[])
    params = {"zero": torch.zeros(2, 2), "still": torch.ones(2, 2)}
    grads = {"zero": torch.ones(2, 2), "still": torch.zeros(2, 2)}
    new, _ = optim.update(grads, optim.init(params), params)
    torch.testing.assert_close(new["zero"], torch.full((2, 2), -0.1), rtol=1e-4, atol=1e-6)
    assert torch.equal(new["still"], params["still"])


def test_the_first_step_of_lamb_is_lr_times_the_norm_of_the_matrix() -> None:
    params = start()
    optim = make("lamb", lr=0.03)
    new, _ = optim.update(gradients()[0], optim.init(params), params)
    for name in ("conv.weight", "head.weight"):
        assert float((new[name] - params[name]).norm() / params[name].norm()) == pytest.approx(0.03)


def test_excluded_parameters_are_named_by_patterns() -> None:
    params = start()
    with pytest.raises(ValueError, match=r"optim=lars adapts no parameter.*optim\.excluded=none"):
        make("lars", excluded=["*"]).init(params)
    with pytest.raises(ValueError, match=r"optim\.excluded has hed"):
        make("lamb", excluded=["hed"]).init(params)
    with pytest.raises(ValueError, match=r"groups\.bias\.trust has no effect on .*: lr, momentum"):
        make("lars", groups={"bias": {"trust": 1.0}}).init(params)
    new, _ = updated(make("lars", groups={"bias": {"lr": "x0.5"}}))
    assert not torch.equal(new["conv.bias"], updated(make("lars"))[0]["conv.bias"])


# Schedule-free learning


FORMS = {
    "schedule_free": ("AdamWScheduleFree", {"lr": 0.01, "weight_decay": 0.1}, {"betas": (0.8, 0.99)}),
    "schedule_free_sgd": ("SGDScheduleFree", {"lr": 0.1, "weight_decay": 0.1}, {"momentum": 0.8}),
}


@pytest.mark.parametrize("power", [0.0, 1.5])
@pytest.mark.parametrize("warmup", [0, 30])
@pytest.mark.parametrize("name", FORMS)
def test_schedule_free_equals_the_package_of_its_authors(name: str, warmup: int, power: float) -> None:
    import schedulefree

    cls, settings, own = FORMS[name]
    more = {"beta2": 0.99} if "betas" in own else {}

    def rate(step: int) -> float:
        return float(settings["lr"] * min(1.0, (step + 1) / max(warmup, 1)))

    optim = make(name, **settings, **more, beta=0.8, weight_power=power)
    ours, opt = updated(optim, rate=rate)
    params = start()
    theirs = getattr(schedulefree, cls)(list(params.values()), **settings, **own, r=power, warmup_steps=warmup)
    theirs.train()
    for grads in gradients():
        for key, p in params.items():
            p.grad = grads[key].clone()
        theirs.step()
    assert farthest(ours, params) < 1e-9
    theirs.eval()
    assert farthest(optim.evaluate(ours, opt), params) < 1e-9


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FORMS)
def test_the_three_sequences_of_schedule_free_are_those_of_the_paper(name: str, way: str) -> None:
    optim = make(name, lr=0.02, weight_decay=0.1)
    ours, opt = updated(optim, way)
    x, z, v = (start() for _ in range(3))
    v, y = map_state(torch.zeros_like, v), start()
    for t, grads in enumerate(gradients()[: WAYS[way]], 1):
        for key, g in grads.items():
            y[key] = 0.1 * z[key] + 0.9 * x[key]
            v[key] = 0.999 * v[key] + 0.001 * g**2
            root = (v[key] / (1 - 0.999**t)).sqrt() + 1e-8
            u = (g / root if name == "schedule_free" else g) + 0.1 * y[key]
            z[key] = z[key] - 0.02 * u
            x[key] = x[key] + (z[key] - x[key]) / t
    assert farthest(optim.evaluate(ours, opt), x) < 1e-9
    assert farthest(opt["z"], z) < 1e-9


def test_every_group_of_schedule_free_has_its_own_average() -> None:
    groups = {"conv*": {"beta": 0.5}, "bias": {"lr": "x2"}, "norm.weight": {"beta": 0.7}}
    optim = make("schedule_free_sgd", lr=0.02, groups=groups)
    ours, opt = updated(optim)
    frozen = {"frozen": torch.ones(2)}
    found = optim.evaluate({**frozen, **ours}, opt)
    assert torch.equal(found.pop("frozen"), frozen["frozen"])
    for pattern, beta in (("conv.weight", 0.5), ("norm.weight", 0.7), ("head.weight", 0.9)):
        alone = make("schedule_free_sgd", lr=0.02, beta=beta)
        expected, theirs = updated(alone)
        assert torch.equal(found[pattern], alone.evaluate(expected, theirs)[pattern])


def test_schedule_free_has_batch_norm_statistics_of_its_average() -> None:
    run = build(plain(mltricks.compose([*TINY, "model=resnet9", "optim=schedule_free", "max_steps=5"])))
    assert (batches_asked(run), len(norms_with_statistics(run.model)) > 0) == (50, True)
    advance(run, 5)
    found, trained = (state["buffers"] for state in (to_predict(run, run.state), run.state))
    assert any(not torch.equal(found[name], trained[name]) for name in found)


CONTRADICTIONS = {
    "scheduler=cosine": r"scheduler=cosine changes the learning rate.*scheduler=constant; scheduler\.warmup_frac",
    "scheduler=onecycle": "scheduler=onecycle changes the learning rate",
    "scheduler=cosine_restarts": "scheduler=cosine_restarts changes the learning rate, and optim=schedule_free",
    "optim.lr={schedule: cosine, start: 1, end: 0.1}": r"optim\.lr cannot be scheduled with optim=schedule_free",
    "optim.beta={schedule: cosine, start: 0.9, end: 0.8}": r"optim\.beta cannot be scheduled",
    "technique=ema": "predicts with weights of its own",
}


@pytest.mark.parametrize("override", CONTRADICTIONS)
def test_schedule_free_refuses_what_contradicts_it(override: str) -> None:
    cfg = plain(mltricks.compose(["optim=schedule_free", override]))
    with pytest.raises(ValueError, match=CONTRADICTIONS[override]):
        check_parts(cfg)


IN_PLACE = ["rmsprop", "adagrad", "radam", "nadam", "lamb", "lars", *FORMS]


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_update_in_place_is_the_same_bit_for_bit(name: str) -> None:
    optim = make(name, weight_decay=0.1)
    for a, b in zip(leaves(updated(optim)), leaves(updated(optim, "in place")), strict=True):
        assert torch.equal(a, b)
