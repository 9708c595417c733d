"""Optimisers, schedules and losses that mltricks does not define: of torch by name, and of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract import advance, assert_resumes_exactly, largest_difference, make
from torch import Tensor, nn
from torch.optim import lr_scheduler

from mltricks.config.values import Positive
from mltricks.objectives.base import Objective
from mltricks.objectives.classify import Classify
from mltricks.objectives.torch import TorchClassify, TorchRegress
from mltricks.schedules.base import Schedule
from mltricks.stack.run import StackedRun
from mltricks.technique import Technique

OWN = f"allow_modules=[{__name__}]"


@dataclass(frozen=True)
class SignSGD:
    lr: Positive

    def init(self, params: dict[str, Tensor]) -> dict[str, Any]:
        return {}

    def update(self, grads: dict[str, Tensor], opt: Any, params: dict[str, Tensor]) -> Any:
        return {name: p - self.lr * grads[name].sign() for name, p in params.items()}, opt


@dataclass(frozen=True)
class Power(Schedule):
    """(1 - progress) ^ power."""

    power: Positive

    def factor(self, progress: float) -> float:
        return (1 - progress) ** self.power


@dataclass(frozen=True)
class Squares(Objective):
    """The squared error against one-hot labels."""

    targets = ("classes",)

    def per_sample(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - F.one_hot(y, outputs.shape[1])).square().mean(1)


@dataclass(frozen=True)
class NoAux(Technique):
    """A loss without its second result."""

    def loss(self, inner: Any) -> Any:
        return lambda params, batch, ctx: inner(params, batch, ctx)[0]


@dataclass(frozen=True)
class NoMetrics(Classify):
    def judge(self, outputs: Tensor, y: Tensor) -> Any:
        return self.mean(outputs, y), {}


class Broken:
    """Data whose files are missing."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, i: int) -> Any:
        return {}["pixels"]


class BrokenLoad:
    def load(self) -> Any:
        raise FileNotFoundError("no such file: pixels.npy")


SIGN = ["optim=custom", f"optim._target_={__name__}.SignSGD", OWN]
POWER = ["scheduler=custom", f"scheduler._target_={__name__}.Power", "+scheduler.power=2.0", OWN]


def test_an_optimiser_of_ones_own_resumes_traces_and_stacks(tmp_path: Path) -> None:
    losses = assert_resumes_exactly([*SIGN, "optim.lr=1e-3"], 3, 6, tmp_path / "last.pt")
    traced = make(*SIGN, "optim.lr=1e-3", "engine=traced")
    assert losses == pytest.approx(advance(traced, 6), rel=1e-4)
    members = [[*SIGN, f"optim.lr={lr}"] for lr in (1e-3, 3e-3)]
    stacked = StackedRun([make(*member) for member in members])
    stacked.advance(3)
    for k, member in enumerate(members):
        alone = make(*member)
        advance(alone, 3)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


def test_a_schedule_of_ones_own(tmp_path: Path) -> None:
    run = make(*POWER, "scheduler.warmup_frac=0.25", "optim.lr=0.01")
    rates = [run.hypers.at(i)["optim"]["lr"] for i in range(run.total_steps)]
    start = run.total_steps // 4
    assert rates[:start] == pytest.approx([0.01 * i / start for i in range(start)])
    rest = run.total_steps - start
    assert rates[start:] == pytest.approx([0.01 * (1 - i / rest) ** 2 for i in range(rest)])
    assert_resumes_exactly(POWER, 2, 4, tmp_path / "last.pt")


def test_an_objective_of_ones_own() -> None:
    run = make("objective=custom", f"objective._target_={__name__}.Squares", OWN)
    losses = advance(run, 40)
    assert sum(losses[-10:]) < sum(losses[:10])


SCHEDULES = {
    "ExponentialLR": {"gamma": 0.97},
    "StepLR": {"step_size": 7, "gamma": 0.3},
    "MultiStepLR": {"milestones": [5, 30]},
    "ConstantLR": {"factor": 0.5, "total_iters": 9},
    "LinearLR": {"start_factor": 0.1, "total_iters": 20},
    "PolynomialLR": {"total_iters": 50, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 40, "eta_min": 1e-4},
    "CosineAnnealingWarmRestarts": {"T_0": 10, "T_mult": 2},
    "CyclicLR": {"base_lr": 1e-4, "max_lr": 1e-2, "step_size_up": 8, "cycle_momentum": False},
    "OneCycleLR": {"max_lr": 0.02, "total_steps": 80, "cycle_momentum": False},
}


def typed(arguments: dict[str, Any]) -> str:
    shown = ",".join(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in arguments.items())
    return f"scheduler.arguments={{{shown}}}"


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_torch_equals_the_class_stepped_by_hand(name: str, interval: str) -> None:
    arguments = SCHEDULES[name]
    run = make("scheduler=torch", f"scheduler.name={name}", typed(arguments), f"scheduler.interval={interval}")
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=3e-3)
    scheduler = getattr(lr_scheduler, name)(optimizer, **arguments)
    every = run.source.steps_per_epoch if interval == "epoch" else 1
    for step in range(run.total_steps):
        assert run.hypers.at(step)["optim"]["lr"] == optimizer.param_groups[0]["lr"], step
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < run.total_steps:
            scheduler.step()


def test_every_schedule_of_torch_is_covered_or_refused() -> None:
    from mltricks.schedules.torch import UNFIT

    there = {
        name
        for name, c in vars(lr_scheduler).items()
        if isinstance(c, type) and issubclass(c, lr_scheduler.LRScheduler)
    }
    assert there - {"LRScheduler", "_LRScheduler"} == SCHEDULES.keys() | UNFIT.keys()


def test_a_schedule_of_torch_comes_after_the_warm_up_and_knows_the_length(tmp_path: Path) -> None:
    shared = ["scheduler=torch", "scheduler.name=CosineAnnealingLR", "optim.lr=0.01"]
    run = make(*shared, "scheduler.warmup_frac=0.25", "scheduler.warmup_start=0.1")
    rates = [run.hypers.at(i)["optim"]["lr"] for i in range(80)]
    assert rates[:20] == pytest.approx([0.001 + 0.009 * i / 20 for i in range(20)])
    cosine = make("scheduler=cosine", "optim.lr=0.01", "scheduler.warmup_frac=0.25", "scheduler.warmup_start=0.1")
    assert rates == pytest.approx([cosine.hypers.at(i)["optim"]["lr"] for i in range(80)])
    assert_resumes_exactly(shared, 3, 5, tmp_path / "last.pt")
    make(*shared, "engine=traced")


LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("CrossEntropyLoss", {"label_smoothing": 0.1}),
    ("MultiMarginLoss", {"margin": 0.5}),
    ("NLLLoss", {}),
]


@pytest.mark.parametrize(("name", "arguments"), LOSSES)
def test_a_loss_of_torch_on_classes(name: str, arguments: dict[str, Any]) -> None:
    logits, y = torch.randn(6, 4).log_softmax(1), torch.arange(6) % 4
    objective, loss = TorchClassify(name, arguments), getattr(nn, name)(**arguments)
    assert torch.equal(objective.judge(logits, y)[0], loss(logits, y))
    torch.testing.assert_close(objective.per_sample(logits, y).mean(), loss(logits, y))
    torch.testing.assert_close(objective.mean(logits, F.one_hot(y, 4).float()), loss(logits, y))
    half = torch.full((6, 4), 0.25)
    each = torch.stack([loss(logits, torch.full((6,), k)) for k in range(4)]).mean()
    torch.testing.assert_close(objective.mean(logits, half), each)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("L1Loss", {}), ("HuberLoss", {"delta": 0.5}), ("SmoothL1Loss", {"beta": 0.3}), ("PoissonNLLLoss", {})],
)
def test_a_loss_of_torch_on_values(name: str, arguments: dict[str, Any]) -> None:
    output, y = torch.rand(6, 1), torch.rand(6)
    objective, loss = TorchRegress(name, arguments), getattr(nn, name)(**arguments)
    assert torch.equal(objective.judge(output, y)[0], loss(output, y[:, None]))
    torch.testing.assert_close(objective.per_sample(output, y).mean(), loss(output, y[:, None]))


def test_a_run_learns_with_a_loss_of_torch_traces_and_stacks() -> None:
    shared = ["objective=torch_classify", "technique=[mixup]", "optim=sgd", "optim.lr=0.05"]
    eager, traced = make(*shared), make(*shared, "engine=traced")
    losses = advance(eager, 40)
    assert sum(losses[-10:]) < sum(losses[:10])
    assert losses == pytest.approx(advance(traced, 40), rel=1e-4)
    stacked = StackedRun([make(*shared, f"seed={seed}") for seed in (0, 1)])
    assert stacked.advance(3)["loss"][0].tolist() == pytest.approx(losses[:3], rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optim=custom", "optim._target_=torch.optim.Adam"], "Type optim=torch with optim.name=Adam."),
        (
            ["scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.StepLR"],
            "Type scheduler=torch with scheduler.name=StepLR.",
        ),
        (
            ["objective=custom", "objective._target_=torch.nn.HuberLoss"],
            "Type objective=torch_classify or objective=torch_regress with objective.name=HuberLoss.",
        ),
        (["objective=custom", "objective._target_=torch.Tensor"], "allow_modules=... names."),
        (["optim=custom", f"optim._target_={__name__}.Power", OWN], "has not a method init"),
        (["scheduler=custom", f"scheduler._target_={__name__}.SignSGD", OWN], "scheduler.warmup_frac is no setting"),
        (["scheduler=torch", "scheduler.name=ReduceLROnPlateau"], "it follows the validation loss"),
        (["scheduler=torch", "scheduler.name=LambdaLR"], "it takes a function"),
        (["scheduler=torch", "scheduler.name=ExponentalLR"], "Did you mean ExponentialLR"),
        (["scheduler=torch", "scheduler.name=ExponentialLR"], "refuses scheduler.arguments=None"),
        (["scheduler=torch", "+scheduler.arguments.gamma=0.9"], "has gamma, which CosineAnnealingLR does not take"),
        (["scheduler=torch", "scheduler.name=OneCycleLR", "+scheduler.arguments.max_lr=0.1"], "cycle_momentum=false"),
        (["technique=[mixup]", "technique.mixup.alpha={schedule: torch, start: 1, end: 0.5}"], "as scheduler=torch"),
        (["objective=torch_classify", "objective.name=L2Loss"], "is no loss of torch.nn"),
        (["objective=torch_classify", "objective.name=HuberLoss"], "does not take logits and class numbers"),
        (["objective=torch_classify", "+objective.arguments.weight=[1,2]"], "sampler=balanced"),
        (["objective=torch_classify", "+objective.arguments.label_smooth=1"], "Did you mean label_smoothing"),
        (["objective=torch_regress"], "objective=torch_regress does not fit these data"),
        ([f"+technique.none={{_target_: {__name__}.NoAux}}", OWN], f"the loss of {__name__}.NoAux returns a Tensor"),
        (["objective=custom", f"objective._target_={__name__}.NoMetrics", OWN], f"the loss of {__name__}.NoMetrics"),
        (
            ["data=custom", f"data._target_={__name__}.Broken", OWN],
            f"sample 0 of the training data failed in {__name__}.B",
        ),
        (["data=custom", f"data._target_={__name__}.BrokenLoad", OWN], "BrokenLoad: FileNotFoundError: no such file"),
        (["objective=regress"], "Type objective=classify or objective=mse or objective=torch_classify"),
    ],
)
def test_what_cannot_be_used_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError) as error:
        make(*overrides)
    assert said in str(error.value)
