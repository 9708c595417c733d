"""Schedules: the factors of torch.optim.lr_scheduler or of the paper's formula at every step, for any float."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.create import create
from mltricks.config.options import conf_dir
from mltricks.schedules.drives import extract_drives, schedule_defaults

STEPS = 60
ELSEWHERE = {"custom", "torch"}
"""A user's class, and those of torch, whose rates are no factors of the peak; ``test_own_options`` has their tests."""
NAMES = sorted({path.stem for path in (conf_dir() / "scheduler").glob("[a-z]*.yaml")} - ELSEWHERE)


def make(name: str, **settings: float | str | bool) -> Any:
    """The schedule as its YAML configures it, with some settings changed."""
    return create({**schedule_defaults(name, "scheduler"), **settings}, "scheduler")


def factors(schedule: Any, steps: int = STEPS) -> list[float]:
    """The factor of every update of a run."""
    return [schedule(i / steps) for i in range(steps)]


def torch_factors(make_scheduler: Any, steps: int = STEPS) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = make_scheduler(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


PARITY: dict[str, tuple[Any, Any]] = {
    "cosine": (make("cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    "cosine final": (make("cosine", final=0.07), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.07)),
    "quarter cosine": (
        make("quarter_cosine"),
        lambda o: lr_scheduler.LambdaLR(o, lambda i: math.cos(7 * math.pi * i / (16 * STEPS))),
    ),
    "linear": (make("linear"), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, STEPS)),
    "linear up": (make("linear", final=3.0), lambda o: lr_scheduler.LinearLR(o, 1 / 3, 1.0, STEPS)),
    "step": (make("step", every_frac=0.1, gamma=0.5), lambda o: lr_scheduler.StepLR(o, STEPS // 10, 0.5)),
    "step of a third": (make("step"), lambda o: lr_scheduler.StepLR(o, STEPS // 3, 0.1)),
    "constant": (make("constant"), lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    "multistep": (make("multistep"), lambda o: lr_scheduler.MultiStepLR(o, [STEPS // 2, 3 * STEPS // 4], 0.1)),
    "multistep of thirds": (
        make("multistep", milestones=[1 / 3, 1 / 3, 2 / 3], gamma=0.5),
        lambda o: lr_scheduler.MultiStepLR(o, [STEPS // 3, STEPS // 3, 2 * STEPS // 3], 0.5),
    ),
    "exponential": (make("exponential"), lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / STEPS))),
    "polynomial": (make("polynomial"), lambda o: lr_scheduler.PolynomialLR(o, STEPS)),
    "polynomial of DeepLab": (make("polynomial", power=0.9), lambda o: lr_scheduler.PolynomialLR(o, STEPS, 0.9)),
    "restarts": (make("cosine_restarts"), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, STEPS // 15, 2)),
    "equal restarts": (
        make("cosine_restarts", cycles=3, growth=1.0, final=0.1),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, STEPS // 3, 1, 0.1),
    ),
    "cyclic": (
        make("cyclic", cycles=3, low=0.2, rise_frac=0.25),
        lambda o: lr_scheduler.CyclicLR(o, 0.2, 1.0, 5, 15, cycle_momentum=False),
    ),
    "cyclic halved": (
        make("cyclic", cycles=3, low=0.2, mode="triangular2"),
        lambda o: lr_scheduler.CyclicLR(o, 0.2, 1.0, 10, mode="triangular2", cycle_momentum=False),
    ),
    "cyclic decaying": (
        make("cyclic", cycles=3, low=0.2, mode="exp_range", decay=0.98**STEPS),
        lambda o: lr_scheduler.CyclicLR(o, 0.2, 1.0, 10, mode="exp_range", gamma=0.98, cycle_momentum=False),
    ),
    "warm-up and cosine": (
        make("cosine", warmup_frac=0.25, warmup_start=0.1),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 15), lr_scheduler.CosineAnnealingLR(o, 45)], [15]
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # torch's own SequentialLR
@pytest.mark.parametrize("case", PARITY)
def test_factors_equal_those_of_torch_at_every_step(case: str) -> None:
    ours, theirs = PARITY[case]
    first = 3.0 if case == "linear up" else 1.0  # torch's factor goes from a third to 1, ours from 1 to 3
    assert factors(ours) == pytest.approx([first * f for f in torch_factors(theirs)], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_onecycle_equals_torchs_over_the_same_points(anneal: str) -> None:
    """Torch's last point is the last update. With one more point the curves are equal."""
    peak = 0.3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    theirs = lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=STEPS + 1, pct_start=(peak * STEPS + 1) / (STEPS + 1), anneal_strategy=anneal
    )
    ours = make("onecycle", peak_frac=peak, anneal=anneal)
    for i in range(STEPS + 1):
        group = optimizer.param_groups[0]
        assert ours(i / STEPS) == pytest.approx(group["lr"], rel=1e-9)
        assert ours.momentum(i / STEPS) == pytest.approx(group["momentum"], rel=1e-9)
        optimizer.step()
        if i < STEPS:
            theirs.step()


def test_onecycle_has_torchs_default_ends() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=10)
    group = optimizer.param_groups[0]
    ours = make("onecycle")
    assert (ours(0.0), ours.momentum(0.0)) == pytest.approx((group["initial_lr"], group["max_momentum"]))
    assert ours(1.0) == pytest.approx(group["min_lr"])
    assert ours(0.3) == pytest.approx(1.0)
    assert ours.momentum(0.3) == pytest.approx(group["base_momentum"])


def test_cyclic_moves_the_momentum_as_torch_does() -> None:
    ours = make("cyclic", cycles=3, mode="triangular2", cycle_momentum=True)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    theirs = lr_scheduler.CyclicLR(optimizer, 1 / 6, 1.0, 10, mode="triangular2")
    for i in range(STEPS):
        assert ours.momentum(i / STEPS) == pytest.approx(optimizer.param_groups[0]["momentum"], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_cycles_fill_the_run() -> None:
    """The last update is the end of a cycle, whatever the number of cycles."""
    for name, settings in (("cosine_restarts", {"growth": 1.7}), ("cyclic", {"low": 0.0})):
        for cycles in (1, 3, 7):
            assert make(name, cycles=cycles, **settings)(1.0) == pytest.approx(0.0, abs=1e-12)
            assert make(name, cycles=cycles, **settings)(1 - 1e-6) < 1e-3


@pytest.mark.parametrize("decay", ["sqrt", "linear"])
def test_warmup_stable_decay_equals_pytorch_optimizers(decay: str) -> None:
    wsd = pytest.importorskip("pytorch_optimizer.lr_scheduler.wsd")
    settings = {"warmup_frac": 0.2, "decay_frac": 0.25, "decay": decay}
    shape = {"sqrt": "1-sqrt", "linear": "linear"}[decay]
    theirs = torch_factors(lambda o: wsd.get_wsd_schedule(o, 12, 36, 12, cooldown_type=shape))
    assert factors(make("warmup_stable_decay", **settings)) == pytest.approx(theirs, rel=1e-9)
    lifted = [f if i < 12 else 0.1 + 0.9 * f for i, f in enumerate(theirs)]
    assert factors(make("warmup_stable_decay", **settings, final=0.1)) == pytest.approx(lifted, rel=1e-9)


def test_slanted_triangular_is_equation_3() -> None:
    total, cut_frac, ratio = 50, 0.1, 32
    ours = make("slanted_triangular")
    cut = math.floor(total * cut_frac)
    for t in range(total):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        assert ours(t / total) == pytest.approx((1 + p * (ratio - 1)) / ratio)


def test_inverse_sqrt_is_equation_3() -> None:
    total, warmup = 1000, 40
    ours = make("inverse_sqrt")
    for i in range(1, total):
        paper = min(i**-0.5, i * warmup**-1.5)
        assert ours(i / total) == pytest.approx(paper / warmup**-0.5)


def test_triangular_is_interpolation_between_three_points() -> None:
    """As in Page's code: learning rates at epochs 0, 5 and 24."""
    ours = make("triangular", peak_frac=5 / 24)
    expected = {0: 0.0, 1: 0.2, 5: 1.0, 14.5: 0.5, 24: 0.0}
    assert {epoch: ours(epoch / 24) for epoch in expected} == pytest.approx(expected)


def test_flat_cosine_is_a_constant_and_a_cosine() -> None:
    ours, cosine = make("flat_cosine", flat_frac=0.6, final=0.1), make("cosine", final=0.1)
    assert [ours(p) for p in (0.0, 0.3, 0.6)] == [1.0, 1.0, 1.0]
    assert [ours(0.6 + 0.4 * q) for q in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(
        [cosine(q) for q in (0.0, 0.25, 0.5, 1.0)]
    )


@pytest.mark.parametrize("warmup_frac", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_factors_stay_between_zero_and_one(name: str, warmup_frac: float) -> None:
    if name == "inverse_sqrt" and warmup_frac == 0:
        with pytest.raises(ValueError, match=r"scheduler\.warmup_frac=0 leaves it no scale"):
            make(name, warmup_frac=0.0)
        return
    schedule = make(name, warmup_frac=warmup_frac)
    values = [schedule(i / 997) for i in range(998)]
    assert min(values) >= 0
    assert max(values) <= 1 + 1e-12
    if name not in ("onecycle", "triangular", "slanted_triangular", "cosine_restarts", "cyclic"):
        after = values[math.ceil(warmup_frac * 997) :]
        assert after == sorted(after, reverse=True), "these never rise after the warm-up"


@pytest.mark.parametrize("name", NAMES)
def test_warmup_is_a_line_to_the_start_of_the_schedule(name: str) -> None:
    schedule, start = make(name, warmup_frac=0.2, warmup_start=0.5), make(name, warmup_frac=0.2).factor(0.0)
    assert [schedule(p) for p in (0.0, 0.1, 0.2)] == pytest.approx([0.5, (0.5 + start) / 2, start])


def small(*overrides: str) -> Run:
    return build(
        plain(
            mltricks.compose(["data.limit=64", "batch_size=16", "epochs=2", "model=mlp", "model.width=4", *overrides])
        )
    )


# Any float of the optimiser or of a technique


def test_any_float_follows_a_schedule() -> None:
    run = small(
        "optim.weight_decay={schedule: cosine, start: 5e-4, end: 1e-4}",
        "technique=mixup",
        "technique.mixup.alpha={schedule: linear, start: 0.4, end: 0.1}",
        "scheduler=step",
        "scheduler.every_frac=0.5",
        "optim.lr=0.01",
    )
    n = run.total_steps
    for i in range(n):
        hyper = run.hypers.at(i)
        assert hyper["optim"]["weight_decay"] == pytest.approx(1e-4 + 4e-4 * 0.5 * (1 + math.cos(math.pi * i / n)))
        assert hyper["optim"]["lr"] == pytest.approx(0.01 if 2 * i < n else 0.001)
        assert hyper["mixup"]["alpha"] == pytest.approx(0.4 - 0.3 * i / n)
    assert run.optim.weight_decay == pytest.approx(5e-4)


def test_settings_of_the_schedule_are_settings_of_the_value() -> None:
    run = small("optim.lr={schedule: linear, start: 0.1, end: 0, warmup_frac: 0.5, warmup_start: 0.5}")
    assert [run.hypers.values(i)["optim", "lr"] for i in (0, run.total_steps // 2)] == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_drives_any_float(name: str) -> None:
    value = {"schedule": name, "start": 0.5, "end": 0.1}
    _, drives = extract_drives({"_target_": "mltricks.optim.adamw.AdamW", "weight_decay": value}, "optim", [])
    shape = make(name)
    assert factors(drives["optim", "weight_decay"]) == pytest.approx([0.1 + 0.4 * f for f in factors(shape)])


def test_the_end_may_be_an_excluded_value_because_no_update_reaches_it() -> None:
    run = small("optim.lr={schedule: cosine, start: 0.1, end: 0}")
    assert run.hypers.values(run.total_steps - 1)["optim", "lr"] > 0


def test_scheduler_moves_the_momentum_of_sgd_and_beta1_of_adam() -> None:
    for optim, name in (("sgd", "momentum"), ("adamw", "beta1")):
        run = small("scheduler=onecycle", f"optim={optim}")
        middle = round(0.3 * run.total_steps)
        assert run.hypers.values(0)["optim", name] == pytest.approx(0.95)
        assert run.hypers.values(middle)["optim", name] < 0.86
        off = small("scheduler=onecycle", "scheduler.cycle_momentum=false", f"optim={optim}")
        assert ("optim", name) not in off.hypers.drives


REFUSED = {
    "optim.lr={schedule: cosin, start: 1, end: 0}": r"optim\.lr\.schedule=cosin is unknown.*cosine",
    "optim.lr={schedule: [cosine], start: 1, end: 0}": r"optim\.lr\.schedule=.* is unknown",
    "optim.lr={schedule: cosine, start: 1}": r"optim\.lr is scheduled without end.*start: A, end: B",
    "optim.lr={schedule: cosine, end: 1}": r"optim\.lr is scheduled without start",
    "optim.lr={schedule: cosine, start: fast, end: 0}": r"optim\.lr\.start='fast' must be a number",
    "optim.lr={schedule: cosine, start: -1, end: 0}": r"optim\.lr\.start=-1 is out of range",
    "optim.lr={schedule: cosine, start: 1, end: 0, finale: 0}": r"optim\.lr\.finale is no setting.*final",
    "optim.lr={schedule: cosine, start: 1, end: 0, final: x}": r"optim\.lr\.final='x' must be a number",
    "optim.lr={schedule: linear, start: 1, end: 0, warmup_frac: 0.5}": r"optim\.lr at 0\.0% of its schedule=0\.0",
    "optim.beta1={schedule: linear, start: 0.8, end: 0.7, final: -1}": r"optim\.beta1\.final=-1 is out of range",
    "optim.beta1={schedule: linear, start: 0.8, end: 0.7, final: 5}": r"optim\.beta1 at .*% of its schedule=1\.0",
    "optim=muon optim.iterations={schedule: linear, start: 5, end: 3}": r"optim\.iterations cannot be scheduled",
    "scheduler=onecycle optim.beta1={schedule: linear, start: 0.8, end: 0.7}": r"optim\.beta1 is driven twice",
    "scheduler=cosine optim.lr={schedule: linear, start: 1, end: 0.1}": r"optim\.lr is driven twice.*=constant",
    "scheduler.warmup_frac=2": r"scheduler\.warmup_frac=2 is out of range",
    "scheduler=onecycle scheduler.anneal=cosine": r"scheduler\.anneal=cosine is not an option.*cos",
    "scheduler=step scheduler.every_frac=0": r"scheduler\.every_frac=0 is out of range",
    "scheduler=multistep scheduler.milestones=[0.5,1.5]": r"scheduler\.milestones\[1\]=1\.5 is out of range",
    "scheduler=multistep scheduler.milestones=[]": r"scheduler\.milestones is empty.*or scheduler=constant",
    "scheduler=exponential scheduler.final=0": r"scheduler\.final=0 is out of range",
    "scheduler=cyclic scheduler.mode=exp_range": r"scheduler\.decay=1\.0 with scheduler\.mode=exp_range.*decay=0\.1",
    "scheduler=cyclic scheduler.decay=0.5": r"peaks decay in mode exp_range only",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_wrong_schedule_is_refused_with_its_key(override: str) -> None:
    parts = override.split(" ", 1) if override.startswith(("scheduler=", "optim=")) else [override]
    with pytest.raises(ValueError, match=REFUSED[override]):
        small(*parts)


def test_an_int_of_a_technique_cannot_be_scheduled() -> None:
    node = {
        "_target_": "mltricks.techniques.ema.Ema",
        "decay": 0.9,
        "warmup": {"schedule": "linear", "start": 1, "end": 0},
    }
    with pytest.raises(ValueError, match=r"technique\.ema\.warmup cannot be scheduled: only decay can"):
        extract_drives(node, "technique.ema", [])


def test_command_with_a_scheduled_value(tmp_path: Path) -> None:
    overrides = [
        "data.limit=64",
        "epochs=2",
        "batch_size=16",
        "model=mlp",
        "log_every=1",
        "optim.lr={schedule: linear, start: 0.02, end: 0}",
        "optim.weight_decay={schedule: cosine, start: 5e-4, end: 0}",
        "technique=mixup",
        "technique.mixup.alpha={schedule: linear, start: 0.4, end: 0.1}",
        f"hydra.run.dir={tmp_path}",
    ]
    done = subprocess.run([sys.executable, "-m", "mltricks", *overrides], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line["split"] == "train"]
    assert rates == pytest.approx([0.02 * (1 - i / len(rates)) for i in range(len(rates))])
