"""Several runs that predict together: the mean of their probabilities, their metrics, as teachers; refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from contract import advance, make
from test_distill import student_of, taught
from torch import Tensor

import mltricks
from mltricks.ensemble import inverse_of, runs_in
from mltricks.inference import evaluate_checkpoint, predict_checkpoint
from mltricks.objectives.classify import Classify
from mltricks.techniques.distill import joined

SHORT = [*TINY, "epochs=1", "model=mlp", "model.width=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs on the same data; the last one has another model and an average of its weights."""
    folder = tmp_path_factory.mktemp("runs")
    varied = [["seed=0"], ["seed=1"], ["model=resnet9", "model.width=4", "technique=ema", "seed=2"]]
    for i, own in enumerate(varied):
        mltricks.train(mltricks.compose([*SHORT, *own]), folder / str(i))
    return [folder / str(i) for i in range(len(varied))]


def plus(runs: list[Path]) -> str:
    return "+".join(map(str, runs))


def evaluated(checkpoint: str, folder: Path, *overrides: str) -> dict[str, Any]:
    given = [f"checkpoint={checkpoint}", *overrides]
    return evaluate_checkpoint(mltricks.compose(["job=evaluate", *given]), folder, given)


def test_predictions_are_the_mean_of_the_probabilities(runs: list[Path]) -> None:
    x = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([mltricks.load(run).predict(x) for run in runs]).mean(0)
    for given in (runs, plus(runs), [str(run) for run in runs]):
        torch.testing.assert_close(mltricks.load(given).predict(x), expected)
    torch.testing.assert_close(mltricks.load(runs).predict(x[0]), expected[:1])


def test_the_ensemble_is_measured_beside_its_members(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(plus(runs), tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    model = mltricks.load(runs)
    run = make(*SHORT)
    for name, split in (("val", run.data.val), ("test", run.data.test)):
        batch = next(split.batches([torch.arange(len(split))]))
        p = model.predict(batch["x"])
        assert found[name]["loss"] == pytest.approx(float(F.nll_loss(p.log(), batch["y"])), rel=1e-5)
        assert found[name]["accuracy"] == pytest.approx(float((p.argmax(1) == batch["y"]).float().mean()))
    for path in runs:
        alone = evaluated(str(path), tmp_path / "alone")
        assert found["members"][str(path)] == {split: alone[split] for split in ("val", "test")}
        assert "members" not in alone
        members = [found["members"][str(path)]["val"]["loss"] for path in runs]
    assert found["val"]["loss"] <= sum(members) / len(members), "the loss is convex in the probabilities"
    assert "ensemble" in capsys.readouterr().out


def test_predictions_of_an_ensemble_are_written(runs: list[Path], tmp_path: Path) -> None:
    given = [f"checkpoint={plus(runs[:2])}"]
    predict_checkpoint(mltricks.compose(["job=predict", *given]), tmp_path, given)
    first = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[0])
    x = next(make(*SHORT).data.test.batches([torch.arange(1)]))["x"]
    assert list(first["probabilities"].values()) == pytest.approx(mltricks.load(runs[:2]).predict(x)[0].tolist())


def test_a_folder_with_a_plus_in_its_name_is_one_run(runs: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "a+b"
    odd.symlink_to(runs[0])
    assert runs_in(odd) == runs_in(str(odd)) == [str(odd)]
    assert runs_in("a+b") == ["a", "b"]


def other_split(folder: Path) -> Path:
    mltricks.train(mltricks.compose([*SHORT, "data.split_seed=5"]), folder)
    return folder


def test_runs_that_do_not_belong_together_are_refused(runs: list[Path], tmp_path: Path) -> None:
    strange = other_split(tmp_path / "strange")
    both = plus([runs[0], strange])
    with pytest.raises(ValueError, match=r"other data \(data\.split_seed is .* and 5\).*name the data"):
        evaluated(both, tmp_path / "job")
    assert evaluated(both, tmp_path / "job", "data.split_seed=9")["test"]["accuracy"] >= 0, "these data were named"
    fashion = tmp_path / "halves"
    mltricks.train(mltricks.compose([*TINY, "epochs=1", "data=digit_masks", "model=fcn", "objective=segment"]), fashion)
    with pytest.raises(ValueError, match=r"cannot be joined: the target of the one"):
        mltricks.load([runs[0], fashion])
    with pytest.raises(ValueError, match="names a twice"):
        mltricks.load("a+a")
    with pytest.raises(ValueError, match="has an empty name"):
        mltricks.load("a+")
    with pytest.raises(ValueError, match="has no single module"):
        mltricks.load(runs).module()


class Sigmoid(Classify):
    def predict(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


class Squares(Classify):
    def predict(self, logits: Tensor) -> Tensor:
        return logits**2


def test_predictions_of_any_invertible_kind_are_averaged() -> None:
    outputs = torch.randn(3, 4)
    for objective in (make(*SHORT).objective, Sigmoid()):
        mean = torch.stack([objective.predict(outputs), objective.predict(-outputs)]).mean(0)
        torch.testing.assert_close(objective.predict(inverse_of(objective, outputs)(mean)), mean)
    with pytest.raises(ValueError, match=r"objective=Squares predicts neither values nor probabilities"):
        inverse_of(Squares(), outputs)
    with pytest.raises(ValueError, match="of one tensor"):
        inverse_of(Classify(), {"a": outputs})


def test_members_that_are_certain_have_a_finite_loss() -> None:
    objective = make(*SHORT, "objective=bce").objective
    outputs = torch.tensor([[40.0, -200.0, 0.0], [20.0, -120.0, 1.0]])
    joined = inverse_of(objective, outputs)(objective.predict(outputs))
    y = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(objective.mean(joined, y), objective.mean(outputs, y))


def test_members_that_predict_values_are_averaged(tmp_path: Path) -> None:
    x, y = torch.randn(96, 3), torch.randn(96)
    parts = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    for seed in (0, 1):
        cfg = mltricks.compose(["model=mlp", "model.width=4", "epochs=1", f"seed={seed}", "plots=false"])
        mltricks.train(cfg, tmp_path / str(seed), data=parts)
    both = [mltricks.load(tmp_path / str(seed)).predict(x) for seed in (0, 1)]
    torch.testing.assert_close(mltricks.load([tmp_path / "0", tmp_path / "1"]).predict(x), sum(both) / 2)


# Several teachers


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_softened_prediction_of_several_teachers_is_the_mean_of_theirs(temperature: float) -> None:
    teachers = [torch.randn(5, 7, generator=torch.Generator().manual_seed(i)) * 5 for i in range(3)]
    expected = torch.stack([(t / temperature).softmax(1) for t in teachers]).mean(0)
    torch.testing.assert_close((joined(teachers, temperature) / temperature).softmax(1), expected)


def test_several_teachers_teach_together(runs: list[Path], teacher: Callable[..., Path]) -> None:
    student = student_of(plus(runs), "technique.distill.temperature=1.0")  # type: ignore[arg-type]
    batch = next(student.source.stream(0))
    found = taught(student, batch).softmax(1).cpu()
    torch.testing.assert_close(found, mltricks.load(runs).predict(batch["x"]), rtol=1e-4, atol=1e-5)
    losses = advance(student, 20)
    assert losses[-1] < losses[0]
