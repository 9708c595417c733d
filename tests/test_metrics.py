"""Metrics of torchmetrics: the numbers of torchmetrics and scikit-learn on the whole split, alone and in a stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics
import torch
import torchmetrics
from conftest import Outcome
from contract import make
from test_kinds import KINDS

import mltricks
from mltricks.evaluate import evaluate, steered_by
from mltricks.summary import Summary

NAMES = "metric=[cohen_kappa,matthews_corrcoef,auroc,{name: f1_score, average: macro}]"


def outputs_on_val(run: Any) -> tuple[torch.Tensor, torch.Tensor]:
    batch = next(run.data.val.batches([torch.arange(len(run.data.val))]))
    return run.predict(run.state, batch["x"]), batch["y"]


def test_the_numbers_are_those_of_torchmetrics_and_scikit_learn() -> None:
    """In batches of 100, so that nothing here is a mean over batches."""
    run = make(NAMES)
    found = evaluate(run.predict, run.objective, run.state, run.data.val, 100, (), run.metrics)
    logits, y = outputs_on_val(run)
    p, predicted = logits.softmax(1), logits.argmax(1)
    assert found["cohen_kappa"] == pytest.approx(sklearn.metrics.cohen_kappa_score(y, predicted), abs=1e-6)
    assert found["matthews_corrcoef"] == pytest.approx(sklearn.metrics.matthews_corrcoef(y, predicted), abs=1e-6)
    assert found["f1_score"] == pytest.approx(
        sklearn.metrics.f1_score(y, predicted, average="macro", labels=range(10), zero_division=0), abs=1e-6
    )
    expected = torchmetrics.functional.auroc(p, y, task="multiclass", num_classes=10)
    assert found["auroc"] == pytest.approx(float(expected), abs=1e-6)
    assert found["f1_score"] == pytest.approx(found["f1"], abs=1e-6)


def test_values_have_metrics_too() -> None:
    here = Path(__file__).parent
    kind = [override.format(here=here) for override in KINDS["values"]]
    run = make(*kind, "metric=r2_score+mean_squared_error+pearson_corrcoef")
    found = evaluate(run.predict, run.objective, run.state, run.data.val, 7, (), run.metrics)
    outputs, y = outputs_on_val(run)
    assert found["r2_score"] == pytest.approx(sklearn.metrics.r2_score(y.flatten(), outputs.flatten()), rel=1e-4)
    assert found["mean_squared_error"] == pytest.approx(found["loss"], rel=1e-5)
    with pytest.raises(ValueError, match="does not say whether a higher value is better"):
        steered_by(make(*kind, "metric=pearson_corrcoef", "objective_metric=val/pearson_corrcoef"))


def test_every_pixel_of_a_mask_counts() -> None:
    run = make(*KINDS["mask"], "metric=cohen_kappa")
    found = evaluate(run.predict, run.objective, run.state, run.data.val, 7, (), run.metrics)
    logits, y = outputs_on_val(run)
    expected = sklearn.metrics.cohen_kappa_score(y.flatten(), logits.argmax(1).flatten())
    assert found["cohen_kappa"] == pytest.approx(expected, abs=1e-6)


def test_a_metric_is_recorded_steers_and_is_tested(tmp_path: Path, train_digits: Callable[..., Summary]) -> None:
    result = train_digits("metric=cohen_kappa", "objective_metric=val/cohen_kappa", "early_stopping.patience=5")
    assert result.objective == {"name": "val/cohen_kappa", "value": result.val["cohen_kappa"], "direction": "maximize"}
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = [line["cohen_kappa"] for line in lines if line["split"] == "val"]
    assert max(measured) == result.val["cohen_kappa"]
    assert "cohen_kappa" in result.test
    assert (
        steered_by(make("metric=calibration_error", "objective_metric=val/calibration_error")).higher_is_better is False
    )


def test_every_trial_of_a_stack_has_its_own(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    shared = ["data.limit=320", "epochs=1", "plots=false", "device=cpu", "metric=[cohen_kappa]", "deterministic=true"]
    done = run_cli("-m", "seed=0,1,2", *shared, "hydra.launcher.fuse=true", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    for seed in range(3):
        stacked = json.loads((tmp_path / f"sweep/{seed}/summary.json").read_text())
        alone = mltricks.train(mltricks.compose([*shared, f"seed={seed}", "progress=none"]), tmp_path / f"alone{seed}")
        assert stacked["fused"] == {"trials": 3}
        assert stacked["val"]["cohen_kappa"] == pytest.approx(alone.val["cohen_kappa"], abs=1e-3)
        assert stacked["test"].keys() == alone.test.keys()


def test_evaluate_measures_them_again(tmp_path: Path, train_digits: Callable[..., Summary]) -> None:
    from mltricks.inference import evaluate_checkpoint

    result = train_digits("metric=cohen_kappa")
    cfg = mltricks.compose(["job=evaluate", f"checkpoint={tmp_path / 'run'}"])
    assert evaluate_checkpoint(cfg, tmp_path, [])["test"] == pytest.approx(result.test)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["metric=cohens_kappa"],
            "metric=cohens_kappa is no metric of torchmetrics for classes. Did you mean cohen_kappa",
        ),
        (["metric=r2_score"], "is no metric of torchmetrics for classes"),
        (["metric=confusion_matrix"], "gives no single number"),
        (["metric=[cohen_kappa,cohen_kappa]"], "given twice"),
        (["metric=[{average: macro}]"], "has no name"),
        (["metric=[{name: f1_score, averages: macro}]"], "cannot be measured here"),
        (["metric=accuracy"], "the objective measures accuracy already"),
        (["metric=cohen_kappa", "objective_metric=val/auroc"], "val/cohen_kappa"),
        ([*KINDS["tokens"], "metric=cohen_kappa"], "no further metrics for targets that are tokens"),
        (["metric=3"], "metric[0]=3 must be a text"),
    ],
)
def test_what_cannot_be_measured_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError) as error:
        steered_by(make(*(override.replace("{here}", str(Path(__file__).parent)) for override in overrides)))
    assert said in str(error.value)


def test_nothing_is_imported_without_a_metric(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(
        "import sys\nimport mltricks\n"
        "mltricks.train(mltricks.compose(['data.limit=64', 'max_steps=1', 'progress=none', 'plots=false']))\n"
        "assert not {'torchmetrics', 'plotly', 'pandas'} & sys.modules.keys()\n"
    )
    import subprocess
    import sys

    subprocess.run([sys.executable, "spy.py"], cwd=tmp_path, check=True)
