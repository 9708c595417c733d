"""Pruning rules: closed forms, any order of reports, and reports of two processes through one storage."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from mltricks.pruning.pruners import Asha, Hyperband, Median, Patient, create_pruner
from mltricks.pruning.reporter import Token, attached, decode

RULES = {
    "pruner": "asha",
    "asha": {"eta": 3, "min_epochs": 1},
    "hyperband": {"eta": 3, "min_epochs": 1},
    "median": {"startup_trials": 2, "min_epochs": 1, "interval_epochs": 1},
    "patient": {"patience": 2, "min_delta": 0.0, "around": "none"},
}


def survivors(rule: Asha | Hyperband, alive: list[int], curves: dict[int, dict[int, float]], epoch: int) -> list[int]:
    """Let all trials report, then judge all, as in a stack. A trial's score is its number. Returns the survivors."""
    for number in alive:
        if rule.due(number, epoch, max(curves[number], default=0)):
            curves[number][epoch] = float(number)
    reported = [n for n in alive if epoch in curves[n]]
    return [n for n in alive if n not in reported or not rule.hopeless(curves, n)]


def test_asha_on_a_stack_is_successive_halving() -> None:
    curves: dict[int, dict[int, float]] = {n: {} for n in range(27)}
    alive, left = list(range(27)), {}
    for epoch in range(1, 27):
        alive = left[epoch] = survivors(Asha(3, 1), alive, curves, epoch)
    assert {epoch: len(left[epoch]) for epoch in (1, 2, 3, 8, 9, 26)} == {1: 9, 2: 9, 3: 3, 8: 3, 9: 1, 26: 1}
    assert alive == [26]
    assert sum(map(len, curves.values())) == 27 + 9 + 3


def test_asha_keeps_an_exact_number_of_equal_trials() -> None:
    curves = {n: {1: 0.5} for n in range(9)}
    assert [n for n in curves if not Asha(3, 1).hopeless(curves, n)] == [0, 1, 2]


def test_asha_judges_validations_that_miss_its_rungs_at_the_next_one() -> None:
    rule = Asha(3, 3)
    assert [epoch for epoch in range(1, 12) if rule.due(0, epoch, 0)] == list(range(3, 12))
    assert not rule.due(0, 8, 4)
    curves = {0: {4: 1.0}, 1: {3: 2.0}, 2: {4: 3.0}}
    assert [rule.hopeless(curves, n) for n in curves] == [True, True, False]


def test_no_rule_depends_on_the_order_of_reports() -> None:
    values = {0: {1: 0.1, 3: 0.2}, 1: {1: 0.4, 3: 0.1}, 2: {1: 0.3}, 3: {1: math.nan}}
    scores = {n: {e: -math.inf if math.isnan(v) else v for e, v in c.items()} for n, c in values.items()}
    rules = [Asha(2, 1), Median(1, 1, 1), Hyperband(2, 1, 8), Patient(1, 0.0, Asha(2, 1))]
    for rule in rules:
        found = {
            tuple(rule.hopeless({n: scores[n] for n in order}, n) for n in sorted(scores))
            for order in itertools.permutations(scores)
        }
        assert len(found) == 1, rule


def test_median_compares_the_best_so_far_at_the_same_epoch() -> None:
    rule = Median(startup_trials=2, min_epochs=1, interval_epochs=2)
    curves = {0: {1: 0.9, 3: 0.5}, 1: {1: 0.2, 3: 0.4}, 2: {1: 0.3, 3: 0.1}, 3: {1: 0.8}}
    assert rule.hopeless(curves, 2)  # best 0.3, against 0.9 and 0.4
    assert not rule.hopeless(curves, 0)
    assert not Median(3, 1, 2).hopeless(curves, 2)  # only two others have reached epoch 3
    assert [rule.due(0, epoch, 1) for epoch in (2, 3)] == [False, True]


def test_patience_counts_reports_and_may_wait_for_another_rule() -> None:
    alone = Patient(2, 0.05, None)
    assert alone.hopeless({0: {1: 0.5, 2: 0.52, 3: 0.54}}, 0)
    assert not alone.hopeless({0: {1: 0.5, 2: 0.52, 3: 0.56}}, 0)
    assert not alone.hopeless({0: {1: 0.5, 2: 0.4}}, 0)
    around = Patient(2, 0.0, Asha(2, 1))
    still = {1: 0.5, 2: 0.5, 3: 0.5}
    assert not around.hopeless({0: still}, 0)
    assert around.hopeless({0: still, 1: {1: 0.9, 2: 0.9}}, 0)


def test_hyperband_shares_trials_among_brackets_as_its_source_does() -> None:
    rule = Hyperband(3, 1, 81)
    found = [rule.bracket(number) for number in range(143)]
    assert [found.count(s) for s in range(5)] == [81, 34, 15, 8, 5]  # the first rungs of table 1
    assert set(found[:20]) == {0, 1, 2, 3, 4}
    assert [rule.due(found.index(s), 3, 0) for s in range(5)] == [True, True, False, False, False]
    assert Hyperband(3, 10, 5).weights() == (1,)


def test_nan_is_the_worst_score_in_either_direction(tmp_path: Path) -> None:
    for direction, best in (("maximize", 0.9), ("minimize", 0.1)):
        reporters = study_of(tmp_path / f"{direction}.db", direction, 3)
        for reporter, value in zip(reporters, (math.nan, best, 0.5), strict=True):
            assert reporter.due(1)
            reporter.report(1, value)
        assert [reporter.hopeless() for reporter in reporters] == [True, False, True]


def test_the_result_at_the_end_is_not_reported(tmp_path: Path) -> None:
    (reporter,) = study_of(tmp_path / "study.db", "maximize", 1, epochs=9)
    reporter.report(3, 0.5)
    assert [epoch for epoch in range(4, 12) if reporter.due(epoch)] == []
    assert attached("") is None


def test_abandoned_trials_are_not_compared_with(tmp_path: Path) -> None:
    weak, strong = study_of(tmp_path / "study.db", "maximize", 2)
    weak.report(1, 0.1)
    strong.report(1, 0.9)
    assert weak.hopeless()
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    optuna.trial.Trial(study, study.trials[1]._trial_id).set_user_attr("abandoned", "its process died")
    weak.report(3, 0.1)
    assert not weak.hopeless()


def test_a_report_of_another_process_is_used(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path / "study.db", "maximize", 2)
    script = "import sys; from mltricks.pruning.reporter import attached; r = attached(sys.argv[1]); r.report(1, 0.9); "
    script += "print(r.hopeless())"
    done = subprocess.run([sys.executable, "-c", script, tokens[0]], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    here = attached(tokens[1])
    assert here is not None
    here.report(1, 0.5)
    assert here.hopeless()


def test_a_token_is_valid_on_the_command_line() -> None:
    token = Token("sqlite:////a b/ü.db", "s", 3, "maximize", RULES, 10)
    assert decode(token.encode()) == token
    assert token.encode().replace("-", "").replace("_", "").isalnum()
    with pytest.raises(ValueError, match="is no token of a study"):
        attached("nonsense")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pruner": "halving"}, "pruner=halving: there is no such rule. Type pruner=none, median, asha"),
        ({"asha": {"eta": 1, "min_epochs": 1}}, "asha.eta=1 must be an integer >= 2. Type asha.eta=3"),
        ({"asha": {"eta": 2.5, "min_epochs": 1}}, "asha.eta=2.5 must be an integer >= 2"),
        ({"pruner": "patient", "patient": {"patience": 1, "min_delta": -1, "around": "none"}}, "min_delta=-1 must be"),
        ({"pruner": "patient", "patient": {"patience": 1, "min_delta": 0, "around": "patient"}}, "around=patient"),
    ],
)
def test_numbers_of_rules_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_pruner({**RULES, **change}, 10)


def tokens_of(path: Path, direction: str, num: int, epochs: int = 27) -> list[str]:
    """Tokens of running trials of a new study."""
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{path}", direction=direction)
    for _ in range(num):
        study.ask()
    study._storage.remove_session()
    return [Token(f"sqlite:///{path}", "s", n, direction, RULES, epochs).encode() for n in range(num)]


def study_of(path: Path, direction: str, num: int, epochs: int = 27) -> list:
    """Reporters of running trials of a new study."""
    return [attached(token) for token in tokens_of(path, direction, num, epochs)]
