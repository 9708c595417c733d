"""Ablations: the arms of each mode, the verdicts on their differences, and when a race ends."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from conftest import Outcome as Ran
from scipy import stats

from mltricks.ablation.arms import Arm, Comparison, arm_name, comparisons, distinct
from mltricks.ablation.design import check_mode, read_design
from mltricks.ablation.effects import effect, of_all
from mltricks.ablation.runs import ArmRuns, best_point
from mltricks.ablation.select import grow
from mltricks.ablation.sweep import steps_of
from mltricks.config.options import conf_dir
from mltricks.summary import Summary
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.statistics import holm

MLP = (*(o for o in TINY if not o.startswith("model")), "model=mlp", "model.width=8", "epochs=1")


def design_of(*arguments: str) -> Any:
    return read_design(arguments, [conf_dir()])


def test_the_arms_of_every_mode() -> None:
    parts = ("mixup", "ema", "sam")
    assert distinct(comparisons("drop", parts)) == [("ema", "sam"), parts, ("mixup", "sam"), ("mixup", "ema")]
    assert distinct(comparisons("add", parts)) == [(), ("mixup",), ("ema",), ("sam",)]
    every = comparisons("all", parts)
    assert every[-1] == Comparison("all together", parts, ())
    assert len(distinct(every)) == 1 + 3 + 3 + 1
    assert distinct(comparisons("all", ("ema",))) == [(), ("ema",)], (
        "with one part, `add` and `drop` have the same arms"
    )


def test_an_arm_without_a_part_has_no_settings_of_that_part() -> None:
    design = design_of(
        "technique=[mixup,ema]", "technique.mixup.alpha=0.4", "augment=standard", "technique.crop.padding=1"
    )
    assert design.parts == ("mixup", "ema", "augment=standard")
    whole = ["augment=standard", "technique=[mixup,ema]", "technique.mixup.alpha=0.4", "technique.crop.padding=1"]
    assert design.overrides(design.parts) == whole
    assert design.overrides(("ema", "augment=standard")) == [
        "augment=standard",
        "technique=[ema]",
        "technique.crop.padding=1",
    ]
    assert design.overrides(("mixup",)) == ["technique=[mixup]", "technique.mixup.alpha=0.4"]
    assert design.overrides(()) == ["technique=[]"]


def test_the_last_of_two_lists_of_techniques_counts() -> None:
    assert design_of("technique=[mixup]", "technique=[ema]", "augment=crop", "augment=standard").parts == (
        "ema",
        "augment=standard",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optim.lr=0.1"], r"something to leave out or to compare.*technique=mixup\+ema.*optim=sgd,adamw"),
        (["optim=sgd,adamw", "seed=0,1"], r"seed=0,1: every arm .*same seeds.*seeds=3"),
        (["optim=sgd,adamw", "epochs=1,2"], r"epochs=1,2: all arms have the same budget"),
        (["data=digits,mnist"], r"data=digits,mnist: .*same test split"),
        (["objective_metric=val/loss,val/f1"], r"same metric.*one value of objective_metric"),
        (["optim.lr=interval(0.1,1)"], r"interval.*Type them, the control first: optim\.lr=A,B"),
        (["optim=sgd,sgd"], r"optim=sgd,sgd: .*different values"),
    ],
)
def test_impossible_ablations_are_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        design_of(*arguments)


def test_a_key_with_several_values_is_a_factor_whose_first_value_is_the_control() -> None:
    design = design_of("technique=[mixup]", "optim=sgd,adamw,lion", "model.width=32,64", "epochs=2")
    assert design.parts == ("mixup",)
    assert list(design.alternatives) == ["optim=adamw", "optim=lion", "model.width=64"]
    assert design.overrides(("mixup",)) == ["optim=sgd", "model.width=32", "technique=[mixup]", "epochs=2"]
    assert design.overrides(("optim=lion",)) == ["optim=lion", "model.width=32", "technique=[]", "epochs=2"]
    assert design.name(("mixup", "model.width=64")) == "mixup + optim=sgd + model.width=64"
    alone = design_of("optim=sgd,adamw", "experiment=mine")
    assert alone.overrides(()) == ["optim=sgd", "experiment=mine"], "techniques of an experiment stay as they are"


def test_alternatives_are_compared_with_the_control_at_the_base_of_the_mode() -> None:
    design = design_of("technique=[mixup]", "optim=sgd,adamw,lion")
    names = {mode: [c.name for c in comparisons(mode, design.parts, design.factors)] for mode in ("drop", "add", "all")}
    lion = ["optim=adamw instead of sgd", "optim=lion instead of sgd"]
    assert names["drop"] == ["mixup with all others", *lion]
    assert names["add"] == ["mixup alone", *lion]
    assert names["all"] == ["mixup alone", *(f"{n} alone" for n in lion), *(f"{n} with all others" for n in lion)]
    assert comparisons("drop", design.parts, design.factors)[1].control == ("mixup",)
    assert comparisons("add", design.parts, design.factors)[1].control == ()
    alone = design_of("optim=sgd,adamw").factors
    every = [comparisons(mode, (), alone) for mode in ("drop", "add", "all")]
    assert every == [[Comparison("optim=adamw instead of sgd", ("optim=adamw",), (), "optim=adamw", "sgd")]] * 3


def test_lists_of_techniques_are_factors_too_and_keep_their_own_settings() -> None:
    design = design_of("technique=[],mixup,[mixup,ema]", "technique.mixup.alpha=0.4", "augment=none,standard")
    assert design.overrides(()) == ["technique=[]", "augment=none"]
    both = ("technique=[mixup,ema]", "augment=standard")
    assert design.overrides(both) == [*both, "technique.mixup.alpha=0.4"]
    assert design.name(both) == "technique=mixup+ema + augment=standard"


def test_a_setting_that_an_option_lacks_is_left_out_or_cannot_be_compared() -> None:
    design = design_of("optim=sgd,adamw", "optim.momentum=0.9")
    design = dataclasses.replace(design, lacks={"optim=adamw": frozenset(["optim.momentum"])})
    assert design.overrides(()) == ["optim=sgd", "optim.momentum=0.9"]
    assert design.overrides(("optim=adamw",)) == ["optim=adamw"]
    swept = design_of("optim=sgd,adamw", "optim.momentum=0.0,0.9")
    with pytest.raises(ValueError, match=r"optim=adamw has no such setting"):
        check_mode(dataclasses.replace(swept, lacks=design.lacks), "drop")
    inner = design_of("technique=[mixup]", "technique.mixup.alpha=0.1,0.4")
    check_mode(inner, "drop")
    assert inner.overrides(()) == ["technique=[]"]
    with pytest.raises(ValueError, match=r"mode=add.*Type mode=drop"):
        check_mode(inner, "add")


def outcome(
    value: float | None, seconds: float = 1.0, direction: str = "maximize", status: str = "completed"
) -> Outcome:
    objective = {"name": "val/accuracy", "value": value, "direction": direction}
    test = {} if value is None else {"accuracy": value}
    return Outcome(0, [], Path("nowhere"), Summary(status, seconds=seconds, objective=objective, test=test))


def judged(treated: Sequence[float | None], control: Sequence[float | None], higher: bool = True) -> Any:
    arms: dict[Arm, Sequence[float | None]] = {("mixup",): treated, (): control}
    results = {
        arm: {
            s: outcome(v, 1.5 if arm else 1.0, status="completed" if v is not None else "diverged")
            for s, v in enumerate(vs)
        }
        for arm, vs in arms.items()
    }
    return effect(Comparison("mixup alone", ("mixup",), ()), [], results, higher, 0.95)


def test_the_interval_of_a_difference_equals_scipys_paired_interval() -> None:
    treated, control = [0.91, 0.93, 0.90, 0.95, 0.92], [0.90, 0.91, 0.90, 0.93, 0.905]
    found = judged(treated, control)
    expected = stats.ttest_rel(treated, control).confidence_interval(0.95)
    assert found.difference_interval == pytest.approx((expected.low, expected.high))
    assert found.difference == pytest.approx(0.013)
    assert (found.verdict, found.seeds_to_settle, found.cost_ratio) == ("helps", None, 1.5)
    assert judged(control, treated).verdict == "hurts"
    assert judged(treated, control, higher=False).verdict == "hurts"


def test_noise_gives_no_evidence_and_the_number_of_seeds_needed() -> None:
    found = judged([0.91, 0.89, 0.93, 0.90], [0.90, 0.90, 0.91, 0.91])
    assert found.verdict == "no evidence at n=4"
    differences = [0.01, -0.01, 0.02, -0.01]
    mean, spread = sum(differences) / 4, stats.tstd(differences)
    enough = lambda n: stats.t.ppf(0.975, n - 1) * spread / n**0.5 < mean  # noqa: E731
    assert enough(found.seeds_to_settle)
    assert not enough(found.seeds_to_settle - 1)


def test_a_pair_with_a_diverged_run_is_excluded_and_counted() -> None:
    found = judged([0.9, None, 0.92], [0.8, 0.8, 0.81])
    assert (found.n, found.lost, found.verdict) == (2, 1, "helps")
    assert judged([0.9, None], [0.8, 0.8]).verdict == "too few pairs"


def test_arms_are_judged_by_the_test_split_and_chosen_by_validation() -> None:
    def told(val: float, test: float) -> Outcome:
        objective = {"name": "val/accuracy", "value": val, "direction": "maximize"}
        return Outcome(0, [], Path("nowhere"), Summary("completed", objective=objective, test={"accuracy": test}))

    flattered = {("mixup",): {0: told(0.9, 0.5), 1: told(0.95, 0.52)}, (): {0: told(0.5, 0.6), 1: told(0.5, 0.63)}}
    found = effect(Comparison("mixup alone", ("mixup",), ()), [], flattered, True, 0.95)
    assert found.difference == pytest.approx(-0.105)
    assert best_point([(["a"], told(0.9, 0.1)), (["b"], told(0.8, 0.9))]) == ["a"]


def test_verdict_of_all_uses_holms_correction() -> None:
    rows = [[0.05, 0.06, 0.055, 0.052], [0.01, 0.03, 0.02, 0.011], [0.01, -0.01, 0.02, -0.01]]
    found = of_all([judged([0.9 + d for d in row], [0.9] * 4) for row in rows], 0.95)
    alone = [stats.ttest_1samp(row, 0).pvalue for row in rows]
    assert [e.p_value for e in found] == pytest.approx(alone)
    assert [e.p_holm for e in found] == pytest.approx([3 * alone[0], 2 * alone[1], alone[2]])
    assert [e.verdict for e in found] == ["helps", "helps", "no evidence at n=4"]
    assert [e.verdict_of_all for e in found] == ["helps", "no evidence at n=4", "no evidence at n=4"]
    (lost,) = of_all([judged([0.9, None], [0.8, 0.8])], 0.95)
    assert (lost.p_holm, lost.verdict_of_all) == (None, "too few pairs")


def test_holms_correction_equals_the_step_down_procedure() -> None:
    draw = random.Random(0)
    for size in range(8):
        p = [draw.random() ** 3 for _ in range(size)]
        found = holm(p)
        for limit in (0.01, 0.05, 0.3):  # step down: reject the smallest as long as p <= limit / (those left)
            rejected: set[int] = set()
            for i in sorted(range(size), key=lambda i: p[i]):
                if p[i] > limit / (size - len(rejected)):
                    break
                rejected.add(i)
            assert {i for i in range(size) if found[i] <= limit} == rejected


class Formula:
    """Replaces training: the objective is the sum of the parts' effects, plus noise of the seed and of the run."""

    def __init__(self, worth: dict[str, float], noise: float):
        self.worth, self.noise, self.launched = worth, noise, 0

    def run(self, jobs: Sequence[Sequence[str]], start: int) -> list[Outcome]:
        assert start == self.launched, "jobs are numbered in the order in which they are launched"
        self.launched += len(jobs)
        return [outcome(self.value(job)) for job in jobs]

    def value(self, job: Sequence[str]) -> float:
        seed = next(o for o in job if o.startswith("seed="))
        common = random.Random(seed).gauss(0, 10 * self.noise)
        own = random.Random(" ".join(job)).gauss(0, self.noise)
        return common + own + sum(w for part, w in self.worth.items() if any(part in o for o in job))


def test_selection_takes_only_parts_that_help() -> None:
    formula = Formula({"mixup": 0.05, "ema": 0.03, "sam": -0.05, "cutmix": 0.0}, noise=0.002)
    design = design_of("technique=[mixup,ema,sam,cutmix]")
    runs = ArmRuns(formula, design, lambda arm: [[]], tuning_seeds=[100])  # type: ignore[arg-type]
    rounds = grow(runs, design, range(10), first=3, level=0.95)
    assert rounds[-1]["chosen"] == ["mixup", "ema"]
    assert len(rounds) == 3, "two rounds with a part that helps, and one without"
    raced = rounds[0]["candidates"]
    assert raced["mixup"] < 10, "the race was decided before the seeds were used up"
    assert raced["sam"] == 3, "a part that is proven worse is not run again"


def test_selection_chooses_one_value_of_a_factor() -> None:
    formula = Formula({"optim=lion": 0.05, "optim=adamw": 0.03, "mixup": 0.02}, noise=0.001)
    design = design_of("technique=[mixup]", "optim=sgd,adamw,lion")
    runs = ArmRuns(formula, design, lambda arm: [[]], tuning_seeds=[100])  # type: ignore[arg-type]
    rounds = grow(runs, design, range(6), first=3, level=0.95)
    assert [entry["chosen"] for entry in rounds] == [["optim=lion"], ["mixup", "optim=lion"]]
    assert [len(entry["candidates"]) for entry in rounds] == [3, 1], "adamw cannot be added to lion"
    names = [c.name for c in steps_of(rounds, design)]
    assert names[1:] == [
        "optim=adamw instead of sgd added to none",
        "optim=lion instead of sgd added to none",
        "mixup added to optim=lion",
    ]


def test_every_arm_is_tuned_and_judged_with_different_seeds() -> None:
    class LikesItsOwnRate(Formula):
        def value(self, job: Sequence[str]) -> float:
            rate = float(next(o for o in job if o.startswith("optim.lr=")).partition("=")[2])
            best = 0.1 if any("mixup" in o for o in job) else 0.01
            return super().value(job) - abs(rate - best)

    points = [["optim.lr=0.01"], ["optim.lr=0.1"]]
    formula = LikesItsOwnRate({}, noise=1e-4)
    runs = ArmRuns(formula, design_of("technique=[mixup]"), lambda arm: points, [7])  # type: ignore[arg-type]
    arms = distinct(comparisons("add", ("mixup",)))
    runs.tune(arms)
    runs.measure(arms, range(3))
    assert runs.tuned == {(): ["optim.lr=0.01"], ("mixup",): ["optim.lr=0.1"]}
    assert formula.launched == 2 * 2 + 2 * 3
    assert 7 not in runs.results[()]


def test_the_mean_over_the_tuning_seeds_chooses_a_point() -> None:
    values = {("optim.lr=1", 7): 0.9, ("optim.lr=1", 8): 0.5, ("optim.lr=2", 7): 0.8, ("optim.lr=2", 8): 0.7}

    class Table(Formula):
        def value(self, job: Sequence[str]) -> float:
            return values.get((job[-2], int(job[-1].removeprefix("seed="))), float("nan"))

    points = [["optim.lr=1"], ["optim.lr=2"]]
    runs = ArmRuns(Table({}, noise=0.0), design_of("technique=[mixup]"), lambda arm: points, [7, 8])  # type: ignore[arg-type]
    runs.tune([()])
    assert runs.tuned == {(): ["optim.lr=2"]}
    values[("optim.lr=2", 8)] = float("nan")
    again = ArmRuns(Table({}, noise=0.0), design_of("technique=[mixup]"), lambda arm: points, [7, 8])  # type: ignore[arg-type]
    again.tune([()])
    assert again.tuned == {(): ["optim.lr=1"]}, "a point of which a run was lost comes last"


def test_the_command(run_cli: Callable[..., Ran], tmp_path: Path) -> None:
    command = ["-m", "hydra/sweeper=ablation", "technique=[label_smoothing,clip_norm]", "hydra.sweeper.mode=all", *MLP]
    command += ["hydra.sweeper.seeds=2", "hydra.sweeper.retune=[optim.lr]", "hydra.sweeper.retune_trials=2"]
    command += ["hydra.sweeper.retune_seeds=2"]
    command += ["hydra.sweep.dir=sweep", "seed=5"]
    ran = run_cli(*command)
    assert ran.status == 0, ran.err
    found = json.loads((tmp_path / "sweep/ablation.json").read_text())
    arms = {arm["name"]: arm for arm in found["arms"]}
    assert list(arms) == [
        "label_smoothing alone",
        "clip_norm alone",
        "label_smoothing with all others",
        "clip_norm with all others",
        "all together",
    ]
    summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sweep/*/summary.json"))]
    seeds = [o for s in summaries for o in s["overrides"] if o.startswith("seed=")]
    assert seeds.count("seed=5") == seeds.count("seed=6") == 4, "four arms, each with the paired seeds"
    assert seeds.count("seed=7") == seeds.count("seed=8") == 4 * 3, "two points and the configured rate, for each arm"

    def mean_of(techniques: str) -> float:
        rate = found["retuned"].get(arm_name(tuple(filter(None, techniques.split(",")))), [])
        own = [
            s["test"]["accuracy"]
            for s in summaries
            if {f"technique=[{techniques}]", *rate} <= set(s["overrides"])
            and {"seed=5", "seed=6"} & set(s["overrides"])
        ]
        return sum(own) / 2

    assert (found["metric"], found["chosen_by"]) == ("test/accuracy", "val/accuracy")
    assert any(s["test"]["accuracy"] != s["objective"]["value"] for s in summaries), (
        "otherwise this test proves nothing"
    )
    both = arms["all together"]
    assert both["difference"] == pytest.approx(mean_of("label_smoothing,clip_norm") - mean_of(""))
    assert (both["n"], both["mean"]) == (2, pytest.approx(mean_of("label_smoothing,clip_norm")))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/summary.json")}
    assert run_cli(*command).status == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/summary.json")} == before


def test_equal_differences_give_no_evidence() -> None:
    found = judged([0.875, 0.75, 0.5], [0.75, 0.625, 0.375])
    assert (found.verdict, found.seeds_to_settle) == ("no evidence at n=3", None)


def test_the_command_compares_the_values_of_a_key(run_cli: Callable[..., Ran], tmp_path: Path) -> None:
    command = ["-m", "hydra/sweeper=ablation", *MLP, "optim=adamw,sgd", "++optim.momentum=0.5", "seeds=2"]
    ran = run_cli(*command, "retune=[optim.lr,optim.momentum]", "retune_trials=2", "hydra.sweep.dir=sweep")
    assert ran.status == 0, ran.err
    found = json.loads((tmp_path / "sweep/ablation.json").read_text())
    (arm,) = found["arms"]
    assert (arm["name"], arm["part"], arm["rival"]) == ("optim=sgd instead of adamw", "optim=sgd", "adamw")
    assert (arm["treated"], arm["control"], arm["n"]) == ("optim=sgd", "optim=adamw", 2)
    jobs = [json.loads(path.read_text())["overrides"] for path in sorted(tmp_path.glob("sweep/*/summary.json"))]
    assert all(any("momentum" in o for o in job) == ("optim=sgd" in job) for job in jobs)
    assert all(any(o.startswith("optim.lr=") for o in found["retuned"][name]) for name in found["retuned"])


def test_stacked_arms_are_compared_too(run_cli: Callable[..., Ran], tmp_path: Path) -> None:
    command = ["-m", "hydra/sweeper=ablation", "technique=[label_smoothing]", *MLP, "seeds=2"]
    ran = run_cli(*command, "hydra.sweep.dir=sweep", "hydra.launcher.fuse=true")
    assert ran.status == 0, ran.err
    (arm,) = json.loads((tmp_path / "sweep/ablation.json").read_text())["arms"]
    assert arm["n"] == 2
    assert arm["cost_ratio"] > 0
