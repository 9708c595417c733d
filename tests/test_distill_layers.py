"""Distillation by layers and by the own average: closed forms, regressors, frozen layers, names, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract import SMALL, advance, make
from torch import Tensor, nn

import mltricks
from mltricks.build import Run
from mltricks.functional.paired_layers import layers_of, middle_pair
from mltricks.techniques.distill import divergence
from mltricks.techniques.distill_attention import attention, attention_gap, averaging
from mltricks.techniques.distill_features import fits, half_square
from mltricks.weights import load_weights

SHORT = ["plots=false", "progress=none", "max_steps=4"]


@pytest.fixture(scope="module")
def resnet(teacher: Callable[..., Path]) -> Path:
    """A teacher of another model: ResNet-9 with 8, 16 and 32 channels at 8x8, 4x4 and 2x2."""
    return teacher("model=resnet9")


def student(technique: str, folder: Path | str, *overrides: str) -> Run:
    given = [o if "=" in o and "." in o.partition("=")[0] else f"technique.{technique}.{o}" for o in overrides]
    return make(f"technique=[{technique}]", f"technique.{technique}.teacher={folder}", *given)


def pairs(run: Run) -> list[tuple[str, str]]:
    (technique,) = run.techniques.values()
    return [(t.name, s.name) for t, s in technique.pairs]  # type: ignore[attr-defined]


def metrics_of(run: Run) -> dict[str, float]:
    metrics = run.step(run.state, next(run.source.stream(0)), run.hypers.at(0))[1]
    return {name: float(value) for name, value in metrics.items()}


def captured(run: Run, teacher: Path, hint: str, guided: str) -> tuple[Tensor, Tensor]:
    """The outputs of two modules for the first batch, computed by hooks on plain modules."""
    found: list[Tensor] = []
    predictor = mltricks.load(teacher)
    module, x = predictor.model.module, run.data.info.normalize(next(run.source.stream(0))["x"])
    tensors = {n.removeprefix("params.").removeprefix("buffers."): t for n, t in predictor.weights.items()}
    module.load_state_dict(tensors)
    run.model.module.load_state_dict({n: run.state["params"][n] for n, _ in run.model.params}, strict=False)
    for model, name in ((module.eval(), hint), (run.model.module.train(), guided)):
        handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: found.append(o.detach()))
        model(x)
        handle.remove()
    return found[0], found[1]


def test_half_square_equals_torchs() -> None:
    a, b = torch.randn(2, 3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half_square(a, b), 0.5 * 5 * F.mse_loss(b, a))
    torch.testing.assert_close(half_square(a[..., 0], b[..., 0]), 0.5 * 4 * F.mse_loss(b[..., 0], a[..., 0]))


def attention_by_hand(teacher: Tensor, student: Tensor) -> Tensor:
    """The three lines of the authors' code."""
    q_t, q_s = (F.normalize(maps.pow(2).mean(1).view(len(maps), -1)) for maps in (teacher, student))
    return (q_s - q_t).pow(2).mean()


def test_attention_equals_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, own = torch.randn(3, 8, 4, 5, generator=generator), torch.randn(3, 2, 4, 5, generator=generator)
    torch.testing.assert_close(attention_gap(teacher, own), attention_by_hand(teacher, own))
    torch.testing.assert_close(attention_gap(3 * own, own), torch.tensor(0.0), atol=1e-12, rtol=0)
    one = torch.eye(4).reshape(4, 1, 2, 2)
    assert float(attention_gap(one, one.flip(0))) == pytest.approx(2 / 4)


def test_attention_of_a_map_of_zeros_has_a_finite_gradient() -> None:
    zero = torch.zeros(2, 3, 4, 4, requires_grad=True)
    gap = attention_gap(torch.ones(2, 3, 4, 4), zero)
    assert float(gap.detach()) == pytest.approx(1 / 16)
    assert torch.equal(torch.autograd.grad(gap, zero)[0], torch.zeros_like(zero))


@pytest.mark.parametrize(("long", "short"), [(8, 4), (7, 3), (5, 5), (9, 1)])
def test_maps_are_averaged_as_by_adaptive_pooling(long: int, short: int) -> None:
    maps = torch.randn(2, 3, long, long + 1, generator=torch.Generator().manual_seed(long))
    pooled = F.adaptive_avg_pool2d(maps.square().mean(1, keepdim=True), (short, short)).flatten(1)
    torch.testing.assert_close(attention(maps, (short, short)), F.normalize(pooled))
    assert averaging(long, short).sum(1).tolist() == pytest.approx([1.0] * short)


def test_hint_and_attention_of_a_run_equal_those_of_plain_modules(resnet: Path) -> None:
    named = ["teacher_layers=layer2.2", "layers=features.4"]
    run = student("distill_features", resnet, *named, "weight=0.5")
    theirs, mine = captured(run, resnet, "layer2.2", "features.4")
    weight, bias = (run.state["params"][f"distill_features/0.{name}"] for name in ("weight", "bias"))
    assert weight.shape == (theirs.shape[1], mine.shape[1], 1, 1)
    hint = 0.5 * theirs.shape[1] * F.mse_loss(F.conv2d(mine, weight, bias), theirs)
    plain = metrics_of(make())["loss"]
    found = metrics_of(run)
    assert found["hint_loss"] == pytest.approx(float(hint), rel=1e-5)
    assert found["loss"] == pytest.approx(plain + 0.5 * float(hint), rel=1e-5)
    found = metrics_of(student("distill_attention", resnet, *named, "weight=10"))
    assert found["attention_loss"] == pytest.approx(float(attention_by_hand(theirs, mine)), rel=1e-5)
    assert found["loss"] == pytest.approx(plain + 10 * float(attention_by_hand(theirs, mine)), rel=1e-5)


@pytest.mark.parametrize("technique", ["distill_features", "distill_attention"])
def test_a_student_equal_to_the_teacher_has_no_gap(technique: str, teacher: Callable[..., Path]) -> None:
    run = student(technique, teacher())
    assert not any("/" in name for name in run.state["params"]), "layers of equal shapes need no regressor"
    run.state["params"] = {name: p.clone() for name, p in run.state["own"][technique]["params"].items()}
    found = metrics_of(run)
    assert found[{"distill_features": "hint_loss", "distill_attention": "attention_loss"}[technique]] < 1e-9


def test_default_layers(resnet: Path, teacher: Callable[..., Path]) -> None:
    """Hints stand in the middle, at maps of equal size; attention at the end of every group of one size."""
    assert pairs(student("distill_features", resnet)) == [("layer2.2", "features.4")]
    found = pairs(student("distill_attention", resnet))
    assert found == [("layer1.0.2", "features.1"), ("layer2.2", "features.4")]
    told = "distill_attention: features.1 follows layer1.0.2 of the teacher, features.4 follows layer2.2 of the teacher"
    assert told in student("distill_attention", resnet).messages
    mlp = make(
        "model=mlp", "technique=[distill_features]", f"technique.distill_features.teacher={teacher('model=mlp')}"
    )
    assert len(pairs(mlp)) == 1


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 4, 4)])
def test_a_kernel_brings_a_larger_map_to_the_size_of_the_hint(shape: tuple[int, ...], resnet: Path) -> None:
    """The source's choice: student size - kernel + 1 = teacher size."""
    layer = {8: "features.1", 4: "features.2"}[shape[1]]
    run = student("distill_features", resnet, "teacher_layers=layer2.3", f"layers={layer}")
    assert run.state["params"]["distill_features/0.weight"].shape[2:] == (shape[1] - 1, shape[1] - 1)
    assert advance(run, 2)


def test_sequences_and_vectors_have_a_linear_regressor() -> None:
    a, b = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)), nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    for x in (torch.randn(5, 3), torch.randn(5, 7, 3)):
        pair = middle_pair(layers_of(a, x), layers_of(b, x), fits)
        assert pair is not None
        assert (pair[0].name, pair[1].name) == ("1", "1")
    assert middle_pair(layers_of(a, torch.randn(5, 3)), layers_of(b, torch.randn(5, 7, 3)), fits) is None


def test_without_labels_only_layers_up_to_the_guided_one_move(resnet: Path) -> None:
    """With decay and momentum: what the hint does not reach stays bit for bit, and has no optimiser tensors."""
    named = ["labels=false", "teacher_layers=layer1.0.2", "layers=features.2", "model.norm=batch"]
    run = student("distill_features", resnet, *named, "optim.weight_decay=0.1", "model.depth=2")
    before = {name: p.clone() for name, p in (run.state["params"] | run.state["buffers"]).items()}
    advance(run, 3)
    after = run.state["params"] | run.state["buffers"]
    moved = {name for name, p in before.items() if not torch.equal(p, after[name])}
    assert all(name.startswith(("features.0", "features.1", "distill_features/")) for name in moved)
    assert {"features.0.weight", "features.1.running_mean", "distill_features/0.weight"} <= moved
    assert "head.weight" in run.frozen
    losses = advance(student("distill_features", resnet, *named), 60)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_without_labels_no_label_is_read(resnet: Path) -> None:
    losses = []
    for factor in (0, 1):
        run = student("distill_features", resnet, "labels=false")
        batch = next(run.source.stream(0))
        losses.append(float(run.step(run.state, {**batch, "y": factor * batch["y"]}, run.hypers.at(0))[1]["loss"]))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("technique", ["distill_features", "distill_attention"])
def test_regressors_and_teachers_are_not_exported(technique: str, resnet: Path, tmp_path: Path) -> None:
    taught = [f"technique=[{technique}]", f"technique.{technique}.teacher={resnet}"]
    mltricks.train(mltricks.compose([*SMALL, *SHORT, *taught]), tmp_path)
    names = load_weights(tmp_path)[0]
    assert not [name for name in names if "/" in name or name.startswith("own.")]
    assert mltricks.load(tmp_path).predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).shape == (1, 10)


REFUSED = {
    "teacher is missing": ["teacher=null"],
    "names 2 runs, whose layers have no mean": ["teacher={0}+{1}"],
    r"has layer9, which is no layer\. Did you mean layer": ["teacher_layers=layer9", "layers=features.1"],
    r"layers is missing: layers are given as pairs.*features\.0, ": ["teacher_layers=layer1"],
    r"teacher_layers is missing: layers are given as pairs.*prep\.0, ": ["layers=features.1"],
    r"names 1 layers \(layer1\), .* 2 \(features\.1, features\.4\)": [
        "teacher_layers=layer1",
        "layers=features.1+features.4",
    ],
    "names no layer, so it has no effect": ["teacher_layers=none", "layers=none"],
    "out of range. Allowed: 0 <= value": ["weight=-1"],
}


@pytest.mark.parametrize("technique", ["distill_features", "distill_attention"])
@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(reason: str, technique: str, resnet: Path, teacher: Callable[..., Path]) -> None:
    given = [text.format(resnet, teacher()) for text in REFUSED[reason]]
    with pytest.raises(ValueError, match=rf"(?s)technique\.{technique}\..*{reason}|{reason}"):
        student(technique, resnet, *given)


def test_layers_that_do_not_fit_are_refused(resnet: Path, teacher: Callable[..., Path]) -> None:
    small = ["teacher_layers=layer1.0.2", "layers=features.4"]
    with pytest.raises(
        ValueError, match=r"features\.4 gives \(8, 4, 4\) and cannot predict layer1\.0\.2 .*\(8, 8, 8\)"
    ):
        student("distill_features", resnet, *small)
    with pytest.raises(
        ValueError, match=r"maps of \(4, 4\), layer1\.0\.2 of the teacher of \(8, 8\)\. Type .*resize=true"
    ):
        student("distill_attention", resnet, *small)
    assert advance(student("distill_attention", resnet, *small, "resize=true"), 1)
    assert len(pairs(student("distill_attention", resnet, "resize=true"))) == 2
    mlp = ["model=mlp", "technique=[distill_attention]", "technique.distill_attention.teacher="]
    with pytest.raises(ValueError, match=r"compares maps .* the student has none"):
        make(*mlp[:2], mlp[2] + str(resnet))
    with pytest.raises(ValueError, match="no layer of the student has a map at least as large"):
        make("model=mlp", "technique=[distill_features]", f"technique.distill_features.teacher={resnet}")


def test_a_model_of_torchvision_and_a_teacher_of_this_package(resnet: Path) -> None:
    """torchvision's blocks call one ReLU twice: such a module is no default."""
    import torchvision

    layers = layers_of(torchvision.models.resnet18(num_classes=10), torch.zeros(2, 3, 32, 32))
    assert {layer.name: layer.called for layer in layers}["layer1.0.relu"] == 2
    from mltricks.functional.paired_layers import group_ends

    assert [layer.name for layer in group_ends(layers).values()] == ["relu", "layer1", "layer2", "layer3"]


def test_the_average_teaches(teacher: Callable[..., Path]) -> None:
    """After two steps the soft term is the divergence from the average that ema keeps."""
    overrides = ["technique=[distill_ema,ema]", "technique.distill_ema.decay=0.9", "technique.ema.decay=0.9"]
    run = make(
        *overrides, "technique.distill_ema.temperature=2.0", "technique.distill_ema.weight=0.5", "model.norm=batch"
    )
    advance(run, 2)
    own = run.state["own"]
    for kind in ("params", "buffers"):
        assert all(torch.equal(t, own["ema"][kind][name]) for name, t in own["distill_ema"][kind].items())
    batch: Any = next(run.source.stream(2))
    x = run.data.info.normalize(batch["x"])
    state = {**run.state["buffers"], **own["ema"]["buffers"]}
    theirs = run.model(own["ema"]["params"], state, x, False)[0]
    mine = run.model(run.state["params"], run.state["buffers"], x, True)[0]
    expected = divergence(mine, theirs, 2.0)
    found = run.step(run.state, batch, run.hypers.at(2))[1]
    assert float(expected) > 0
    assert float(found["distill_loss"]) == pytest.approx(float(expected), rel=1e-5)
    total = 0.5 * F.cross_entropy(mine, batch["y"]) + 0.5 * expected
    assert float(found["loss"]) == pytest.approx(float(total), rel=1e-5)


def test_the_weight_of_a_teacher_falls_on_a_line(teacher: Callable[..., Path]) -> None:
    falling = "technique.distill.weight={schedule: linear, start: 0.8, end: 0.0}"
    run = student("distill", teacher(), falling)
    values = [float(run.hypers.at(i)["distill"]["weight"]) for i in (0, run.total_steps // 4, run.total_steps // 2)]
    assert values == pytest.approx([0.8, 0.6, 0.4])
    assert advance(run, 3)
