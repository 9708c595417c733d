"""The output of a run, early stopping, and the metric that chooses the best epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.evaluate import steered_by
from mltricks.ledger import Ledger
from mltricks.objectives.classify import class_counts, macro_f1
from mltricks.observers.base import Moment, curve
from mltricks.observers.console import Bar
from mltricks.observers.early_stopping import EarlyStopping
from mltricks.observers.files import read_records
from mltricks.observers.run_page.result import table_section
from mltricks.summary import Summary

SCORES = [0.5, 0.6, 0.61, 0.62, 0.58, 0.63, 0.7, 0.7, 0.69, 0.2, 0.9]


def stops_after(scores: Sequence[float], patience: int, min_delta: float, higher: bool) -> int | None:
    """Early stopping by definition: none of the last ``patience`` scores beats the best before it by min_delta."""
    sign, best, waited = (1 if higher else -1), None, 0
    for i, score in enumerate(scores):
        if best is None or sign * score > sign * best + min_delta:
            best, waited = score, 0
        else:
            waited += 1
        if waited == patience:
            return i
    return None


def observed(stopping: EarlyStopping, scores: Sequence[float], first: int = 0) -> int | None:
    for i, score in enumerate(scores[first:], first):
        if stopping.validated(Moment({}, {"split": "val", "accuracy": score}, False)):
            return i
    return None


def early_stopping(patience: int, min_delta: float, higher: bool) -> EarlyStopping:
    stopping = EarlyStopping(patience, min_delta)
    stopping.score, stopping.sign = "accuracy", 1.0 if higher else -1.0
    return stopping


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize(("patience", "min_delta"), [(1, 0.0), (2, 0.0), (3, 0.0), (2, 0.05), (3, 0.015), (9, 0.0)])
def test_early_stopping_follows_its_rule(patience: int, min_delta: float, higher: bool) -> None:
    scores = SCORES if higher else [-s for s in SCORES]
    expected = stops_after(scores, patience, min_delta, higher)
    assert observed(early_stopping(patience, min_delta, higher), scores) == expected


@pytest.mark.parametrize("cut", range(1, 9))
def test_early_stopping_keeps_its_memory_over_a_restart(cut: int) -> None:
    expected = stops_after(SCORES, 3, 0.0, True)
    before = early_stopping(3, 0.0, True)
    found = observed(before, SCORES[:cut])
    after = early_stopping(3, 0.0, True)
    after.recall({name: tensor.clone() for name, tensor in before.memory().items()})
    assert after.stopped() == (found is not None)
    assert (found if found is not None else observed(after, SCORES, cut)) == expected


def test_a_run_without_improvement_stops(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    frozen = ("optim.lr=1e-30", "optim.weight_decay=0", "epochs=9", "early_stopping.patience=2")
    summary = train_digits(*frozen)
    assert (summary.status, summary.steps) == ("stopped_early", 30)
    (tmp_path / "run" / "summary.json").unlink()  # as after a kill before the test
    again = train_digits(*frozen, resume=True)
    assert (again.status, again.steps, again.test) == ("stopped_early", 30, summary.test)


def test_min_delta_without_patience_is_refused(train_digits: Callable[..., Summary]) -> None:
    with pytest.raises(ValueError, match=r"early_stopping\.min_delta has no effect.*patience=5"):
        train_digits("early_stopping.min_delta=0.1")


@pytest.mark.parametrize(("metric", "best"), [("f1", max), ("loss", min), ("accuracy", max)])
def test_objective_metric_chooses_the_best_epoch(
    train_digits: Callable[..., Summary], tmp_path: Path, metric: str, best: Any
) -> None:
    summary = train_digits(f"objective_metric=val/{metric}", "optim.lr=0.1", "epochs=4")
    values = [r[metric] for r in read_records(tmp_path / "run" / "metrics.jsonl") if r["split"] == "val"]
    direction = "minimize" if metric == "loss" else "maximize"
    assert summary.objective == {"name": f"val/{metric}", "value": best(values), "direction": direction}
    assert summary.val[metric] == best(values)


@pytest.mark.parametrize(
    ("metric", "said"), [("val/f2", "Did you mean val/f1"), ("test/accuracy", "only the validation"), ("f1", "val/f1")]
)
def test_a_metric_that_cannot_be_the_objective_is_refused(
    train_digits: Callable[..., Summary], metric: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        train_digits(f"objective_metric={metric}")
    assert "Known: val/loss, val/accuracy, val/f1" in str(error.value)


def test_macro_f1_equals_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(0)
    for num_classes, size in ((3, 50), (10, 40), (10, 7)):
        y, predicted = generator.integers(0, num_classes, (2, size))
        y[y == 1] = 0  # a class without samples
        counts = sum(class_counts(torch.tensor(predicted[i::2]), torch.tensor(y[i::2]), num_classes) for i in range(2))
        expected = f1_score(y, predicted, average="macro", zero_division=0)
        assert float(macro_f1(counts)) == pytest.approx(expected, abs=1e-12)


def test_the_ledger_saves_observers_under_their_class() -> None:
    cfg = plain(mltricks.compose([*TINY]))
    run = build(cfg)
    ledger = Ledger(run.hypers, run.source.steps_per_epoch, steered_by(run))
    before, after = early_stopping(3, 0.0, True), early_stopping(3, 0.0, True)
    observed(before, SCORES[:9])
    ledger.recall(ledger.remember([before, Bar()]), [after])
    assert (after.best, after.waited) == (before.best, before.waited) == (0.7, 2)


@pytest.mark.parametrize("log_every", [3, 100])
def test_the_loss_of_an_epoch_is_its_own_mean_however_often_it_is_logged(
    train_digits: Callable[..., Summary], tmp_path: Path, log_every: int
) -> None:
    def training(folder: Path) -> list[dict[str, Any]]:
        return [r for r in read_records(folder / "metrics.jsonl") if r["split"] == "train"]

    train_digits("log_every=1", "max_steps=14", folder=tmp_path / "each")
    every = [r["loss"] for r in training(tmp_path / "each")]
    summary = train_digits(f"log_every={log_every}", "max_steps=14", folder=tmp_path / "some")
    told = {r["step"]: r["epoch_loss"] for r in training(tmp_path / "some") if "epoch_loss" in r}
    assert told == pytest.approx({10: sum(every[:10]) / 10, 14: sum(every[10:]) / 4}, rel=1e-12)
    assert summary.train == {"loss": told[14], "accuracy": summary.train["accuracy"]}


@pytest.mark.parametrize("cut", [1, 4, 7, 10, 13])
def test_the_loss_of_an_epoch_is_the_same_where_the_run_was_stopped_within_it(cut: int) -> None:
    run = build(plain(mltricks.compose([*TINY, "epochs=2"])))
    losses = torch.rand(20, generator=torch.Generator().manual_seed(0))

    def told(cut: int) -> list[dict[str, Any]]:
        ledger, seen = Ledger(run.hypers, run.source.steps_per_epoch, steered_by(run)), []
        for step, loss in enumerate(losses, 1):
            ledger.add({"loss": loss})
            if ledger.record_due(step, 4, 20):
                ledger.record_training(step, 8, [])
                seen.append({k: v for k, v in ledger.last_train.items() if "loss" in k})
            if step == cut:
                kept, ledger = ledger.remember([]), Ledger(run.hypers, run.source.steps_per_epoch, steered_by(run))
                ledger.recall(kept, [])
        return seen

    assert told(cut) == told(0)


@pytest.mark.parametrize(("scores", "losses", "best"), [((0.9, 1.0, 1.0, 1.0), (0.5, 0.28, 0.006, 0.01), 3)])
def test_the_best_of_equal_scores_has_the_lower_loss(
    scores: Sequence[float], losses: Sequence[float], best: int
) -> None:
    run = build(plain(mltricks.compose([*TINY])))
    ledger = Ledger(run.hypers, run.source.steps_per_epoch, steered_by(run))
    for epoch, (accuracy, loss) in enumerate(zip(scores, losses, strict=True), 1):
        ledger.record_validation(10 * epoch, {"accuracy": accuracy, "loss": loss}, [])
    assert ledger.best["epoch"] == best


def test_curves_of_several_epochs_are_their_means() -> None:
    train = [{"step": s, "epoch": 1 + (s > 4), "split": "train", "loss": float(s)} for s in (2, 4, 6, 8)]
    assert curve(train, "loss") == [(2, 2.0), (4, 4.0), (6, 6.0), (8, 8.0)]
    train[1]["epoch_loss"], train[3]["epoch_loss"] = 3.5, 7.5
    assert curve(train, "loss") == [(4, 3.5), (8, 7.5)]
    assert curve([{"step": 4, "epoch": 1, "split": "val", "loss": 1.0}], "loss") == [(4, 1.0)]


def test_the_table_of_results_says_which_epoch_each_number_belongs_to() -> None:
    summary = Summary("completed", train={"loss": 0.1}, val={"loss": 0.3}, test={"loss": 0.4})
    summary.epoch_of, summary.objective = {"train": 5, "val": 3, "test": 3}, {"name": "val/loss", "value": 0.3}
    labels = [row[0] for row in table_section(summary).parts[0].rows]
    assert labels == [
        "training, mean over epoch 5, the last",
        "validation, epoch 3, the best",
        "test, weights of epoch 3",
    ]


def test_the_table_of_a_run_without_a_result_has_the_numbers_of_the_linear_model() -> None:
    table = table_section(Summary("diverged"), {"val": {"loss": 0.5, "accuracy": 0.9}}).parts[0]
    assert (table.head, table.rows) == (["", "loss", "accuracy"], [["a linear model, validation", 0.5, 0.9]])
