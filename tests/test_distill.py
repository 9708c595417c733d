"""Distillation: the divergence compared with torch's, the teacher's inputs, and which teachers are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import EXACT
from contract import SMALL, advance, make
from torch import Tensor

import mltricks
from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.data.info import Info
from mltricks.inputs.image import Image
from mltricks.inputs.vector import Vector
from mltricks.step import split_at_normalize
from mltricks.teacher import check_same_task, renormalization
from mltricks.technique import Ctx
from mltricks.techniques.distill import Distill, divergence

DIGITS = Info(Image((1, 8, 8)), "classes", 10, tuple("0123456789"))


def trained(folder: Path, *overrides: str) -> Path:
    short = [*SMALL, "max_steps=20", "plots=false", "progress=none", *overrides]
    mltricks.train(mltricks.compose(short), folder)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short run."""
    return trained(tmp_path_factory.mktemp("teacher"))


def student_of(teacher: Path, *overrides: str) -> Run:
    return make("technique=[distill]", f"technique.distill.teacher={teacher}", *overrides)


def logits(shape: tuple[int, ...] = (6, 5), seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * 3, torch.randn(shape, generator=generator) * 3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_equals_torchs(temperature: float) -> None:
    student, teacher = logits()
    inputs = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    expected = temperature**2 * F.kl_div(*inputs, reduction="batchmean")
    torch.testing.assert_close(divergence(student, teacher, temperature), expected)
    torch.testing.assert_close(divergence(student, teacher, torch.tensor(temperature)), expected)


def test_divergence_of_sequences_is_the_mean_over_positions() -> None:
    student, teacher = logits((3, 4, 5))
    torch.testing.assert_close(
        divergence(student, teacher, 2.0), divergence(student.flatten(0, 1), teacher.flatten(0, 1), 2.0)
    )


def test_gradient_is_the_papers_and_tends_to_matching_logits() -> None:
    """T^2 dKL/dz = T (softmax(z / T) - softmax(v / T)) / B; for large T it is (z - v) / (B K) with centred logits."""
    student, teacher = (v.double() for v in logits())
    student.requires_grad_()
    for temperature in (2.0, 1e4):
        (grad,) = torch.autograd.grad(divergence(student, teacher, temperature), student)
        torch.testing.assert_close(
            grad, temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) / 6
        )
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(grad, centred / (6 * 5), rtol=1e-2, atol=1e-4)


def metrics_of(run: Run) -> dict[str, float]:
    metrics = run.step(run.state, next(run.source.stream(0)), run.hypers.at(0))[1]
    return {name: float(value) for name, value in metrics.items()}


def test_a_student_equal_to_the_teacher_has_zero_divergence(teacher: Path) -> None:
    run = student_of(teacher)
    assert metrics_of(run)["distill_loss"] > 0.01
    run = student_of(teacher)
    run.state["params"] = {name: p.clone() for name, p in run.state["own"]["distill"]["params"].items()}
    assert metrics_of(run)["distill_loss"] == pytest.approx(0.0, abs=1e-6)


def test_loss_is_the_weighted_sum(teacher: Path) -> None:
    whole, hard = (metrics_of(student_of(teacher, f"technique.distill.weight={w}")) for w in (0.7, 0.0))
    assert whole["distill_loss"] == hard["distill_loss"]
    assert whole["loss"] == pytest.approx(0.3 * hard["loss"] + 0.7 * hard["distill_loss"], rel=1e-6)


def taught(run: Run, batch: Batch) -> Tensor:
    """The teacher's logits as the technique makes them."""
    technique: Any = run.techniques["distill"]
    ctx = Ctx(run.model, {}, run.state["own"], run.state["step"], 0.0, 10).scope("distill")
    return technique.teach(run.data.info.normalize(batch["x"]), ctx)


def test_a_teacher_with_other_statistics_gets_inputs_normalised_by_them(tmp_path: Path) -> None:
    folder = trained(tmp_path, "data.split_seed=3", "data.val_frac=0.8")
    other = make("data.split_seed=3", "data.val_frac=0.8")
    run = student_of(folder)
    assert not torch.equal(run.data.info.input.mean, other.data.info.input.mean), "the statistics differ"
    batch = next(run.source.stream(0))
    expected = mltricks.load(folder).forward(batch["x"])
    torch.testing.assert_close(taught(run, batch), expected, rtol=1e-4, atol=1e-5)
    assert "scale" in run.state["own"]["distill"]
    assert renormalization("distill", other.data.info, other.data.info) == {}


def test_techniques_that_change_the_model_are_applied_to_the_loaded_teacher(tmp_path: Path) -> None:
    surgery = ["technique=[dropout,stochastic_depth,ema]", "model=resnet9", "technique.dropout.p=0.5"]
    folder = trained(tmp_path, *surgery)
    run = student_of(folder)
    batch = next(run.source.stream(0))
    torch.testing.assert_close(taught(run, batch), mltricks.load(folder).forward(batch["x"]), rtol=1e-4, atol=1e-5)


def test_teacher_sees_the_augmented_batch(teacher: Path) -> None:
    """With mixup before it and weight 1 on the teacher, the targets are the teacher's predictions on the blends."""
    run = make("technique=[mixup,distill]", f"technique.distill.teacher={teacher}", "technique.distill.weight=1.0")
    batch = next(run.source.stream(0))
    torch.manual_seed(4)
    loss = float(run.step(run.state, batch, run.hypers.at(0))[1]["loss"])
    run = make("technique=[mixup,distill]", f"technique.distill.teacher={teacher}", "technique.distill.weight=1.0")
    assert split_at_normalize(run.techniques)[1] == ["mixup"]
    ctx = Ctx(run.model, dict(run.state["buffers"]), run.state["own"], run.state["step"], 0.0, 10)
    torch.manual_seed(4)
    mixed = run.techniques["mixup"].batch({"x": run.data.info.normalize(batch["x"]), "y": batch["y"]}, ctx)["x"]
    student = ctx.apply(run.state["params"], mixed)
    technique: Any = run.techniques["distill"]
    expected = divergence(student, technique.teach(mixed, ctx.scope("distill")), technique.temperature)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_a_distilled_run_can_be_a_teacher_without_its_own_teacher(teacher: Path, tmp_path: Path) -> None:
    import shutil

    first = tmp_path / "first"
    shutil.copytree(teacher, first)
    second = trained(tmp_path / "second", "technique=[distill]", f"technique.distill.teacher={first}")
    shutil.rmtree(first)
    losses = advance(student_of(second), 20)
    assert losses[-1] < losses[0]


def test_the_teacher_may_be_a_weights_file(teacher: Path) -> None:
    file = teacher / "checkpoints" / "best.safetensors"
    assert metrics_of(student_of(file)) == metrics_of(student_of(teacher))


def test_a_missing_teacher_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"type technique\.distill\.teacher=outputs/"):
        make("technique=[distill]")
    with pytest.raises(ValueError, match="there are no weights at nowhere"):
        make("technique=[distill]", "technique.distill.teacher=nowhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_outputs", 9), ("classes", tuple("abcdefghij")), ("input", Vector((64,))), ("target", "tokens")],
)
def test_teacher_of_another_task_is_refused(key: str, value: Any) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=f"technique.distill.teacher=there was trained on other data: its {key}"):
        check_same_task("distill", "there", DIGITS, replace(DIGITS, **{key: value}))
    check_same_task("distill", "there", DIGITS, DIGITS)


def test_teacher_of_other_inputs_is_refused(teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "abc.txt"
    path.write_text("the cat sat on the mat. " * 60)
    text = ["data=text", f"data.path={path}", "objective=next_token", "model=transformer", "data.length=16"]
    sizes = ["model.width=8", "model.heads=2", "batch_size=8", "data.limit=32", *EXACT]
    with pytest.raises(ValueError, match=r"its input is image 1x8x8, here it is tokens 16"):
        student_of(teacher, *text, *sizes)


def test_targets_that_are_values_are_refused() -> None:
    assert "values" not in Distill.targets
