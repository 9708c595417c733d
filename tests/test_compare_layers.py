"""job=compare_layers: CKA in closed form and against the formula of features; the job on two models; refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mltricks
from mltricks.construct import load_data
from mltricks.functional.cka import linear_cka
from mltricks.probes.compare_layers import compare_layers


def features(num: int, width: int, seed: int) -> Tensor:
    return torch.randn(num, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_cka_is_one_for_itself_a_rotation_a_factor_and_a_shift() -> None:
    x = features(20, 6, 0)
    rotation, _ = torch.linalg.qr(features(6, 6, 1))
    for y in (x, x @ rotation, -3 * x, x + features(1, 6, 2)):
        assert float(linear_cka(x, y)) == pytest.approx(1.0)
    assert float(linear_cka(x, x @ torch.diag(torch.arange(6.0).double()))) < 0.95, "a stretched axis counts"


@pytest.mark.parametrize("widths", [(3, 7), (30, 4), (1, 1)])
def test_cka_equals_the_formula_of_features(widths: tuple[int, int]) -> None:
    x, y = features(12, widths[0], 3), features(12, widths[1], 4)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert float(linear_cka(x, y)) == pytest.approx(float(expected))


def test_cka_of_orthogonal_and_of_constant_features_is_zero() -> None:
    x = torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    assert float(linear_cka(x, x.flip(0))) == 0.0
    assert float(linear_cka(x, torch.ones(4, 2))) == 0.0


def compared(folder: Path, *overrides: str) -> dict[str, Any]:
    cfg = mltricks.compose(["job=compare_layers", *overrides])
    compare_layers(cfg, folder, list(overrides), "RUN")
    content: dict[str, Any] = json.loads((folder / "compare_layers.json").read_text())
    return content


def test_the_job_compares_layers_of_two_runs(teacher: Callable[..., Path], tmp_path: Path) -> None:
    runs = [teacher("model=resnet9"), teacher()]
    given = ["job.layers=layer1+head", "job.num_samples=50"]
    found = compared(tmp_path, f"checkpoint={runs[0]}+{runs[1]}", *given)
    assert found["layers"] == [["layer1", "head"], ["features.0", "features.3", "head"]]
    assert found["runs"] == [str(run) for run in runs]
    assert found["num_samples"] == 50
    assert all(0 < value < 1 for row in found["similarity"] for value in row)
    assert (tmp_path / "compare_layers.png").is_file()
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "completed"
    again = compared(tmp_path, f"checkpoint={runs[1]}+{runs[0]}", "job.other_layers=layer1+head", "job.num_samples=50")
    torch.testing.assert_close(torch.tensor(again["similarity"]).T, torch.tensor(found["similarity"]))


def test_heads_are_compared_by_the_logits_that_predict(teacher: Callable[..., Path], tmp_path: Path) -> None:
    runs = [teacher("technique=ema"), teacher()]
    found = compared(tmp_path, f"checkpoint={runs[0]}+{runs[1]}", "job.layers=head", "job.other_layers=head")
    predictors = [mltricks.load(run) for run in runs]
    split = load_data(predictors[0].cfg, []).val
    x = next(split.batches([torch.arange(len(split))]))["x"]
    with torch.no_grad():
        expected = linear_cka(*(predictor.forward(x) for predictor in predictors))
    assert found["num_samples"] == len(split)
    assert found["similarity"] == [[pytest.approx(float(expected), rel=1e-4)]]


def test_layers_of_one_run_are_compared_with_each_other(teacher: Callable[..., Path], tmp_path: Path) -> None:
    found = compared(tmp_path, f"checkpoint={teacher()}")
    matrix = torch.tensor(found["similarity"])
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(3))


def test_refusals(teacher: Callable[..., Path], tmp_path: Path) -> None:
    run = teacher()
    with pytest.raises(ValueError, match="job=compare_layers needs a trained model"):
        compared(tmp_path)
    with pytest.raises(ValueError, match=r"job\.layers has featurs, which is no layer\. Did you mean features"):
        compared(tmp_path, f"checkpoint={run}", "job.layers=featurs")
    with pytest.raises(ValueError, match="other_layers has no effect on one run"):
        compared(tmp_path, f"checkpoint={run}", "job.other_layers=head")
    with pytest.raises(ValueError, match=r"job\.num_samples=2 is out of range"):
        compared(tmp_path, f"checkpoint={run}", "job.num_samples=2")
