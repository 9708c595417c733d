"""Losses of objectives compared with torch, torchvision, torchmetrics, scikit-learn and closed forms."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Outcome
from contract import advance, make
from torch import Tensor
from torch.utils.data import TensorDataset

from mltricks.data.custom import Custom, adapt
from mltricks.data.given import splits_of
from mltricks.data.info import Info
from mltricks.data.samples import as_target
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.evaluate import Tally, measure_batch
from mltricks.inputs.vector import Vector
from mltricks.objectives.bce import Bce
from mltricks.objectives.classify import Classify
from mltricks.objectives.contrastive import Contrastive
from mltricks.objectives.focal import Focal
from mltricks.objectives.mse import Mse
from mltricks.objectives.soft_f1 import SoftF1
from mltricks.stack.run import StackedRun

K = 5
HERE = Path(__file__).parent


def drawn(size: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, K), classes (B,) and sets of labels (B, K)."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, K, generator=g)
    sets = (torch.rand(size, K, generator=g) < torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])).float()
    return logits.requires_grad_(), torch.randint(K, (size,), generator=g), sets


def splits(y: Tensor, target: str) -> DataSplits:
    """Data of which only the targets matter."""
    part = MemorySplit(torch.zeros(len(y), 2), y)
    return DataSplits(part, part, part, Info(Vector((2,)), target, K, tuple("abcde")))


def bce(**changes: Any) -> Bce:
    return Bce(**{"threshold": 0.5, "target_threshold": None, **changes})


def focal(**changes: Any) -> Focal:
    return Focal(**{"threshold": 0.5, "form": "softmax", "gamma": 2.0, "alpha": None, **changes})


def soft_f1(double: bool = False) -> SoftF1:
    return SoftF1(threshold=0.5, double=double)


def over_split(objective: Any, logits: Tensor, y: Tensor, *sizes: int) -> dict[str, float]:
    """The metrics of a split that is measured in batches of these sizes."""
    tally = Tally(objective)
    for part, targets in zip(logits.detach().split(sizes), y.split(sizes), strict=True):
        tally.add(measure_batch(objective, part, targets), len(part))
    return {name: float(value) for name, value in tally.means().items()}


def test_bce_equals_torchs_and_classes_are_one_hot() -> None:
    logits, y, sets = drawn()
    torch.testing.assert_close(bce().mean(logits, sets), F.binary_cross_entropy_with_logits(logits, sets))
    one_hot = F.binary_cross_entropy_with_logits(logits, F.one_hot(y, K).float())
    torch.testing.assert_close(bce().mean(logits, y), one_hot)
    torch.testing.assert_close(bce().per_sample(logits, y).mean(), one_hot)
    zeros = torch.zeros(3, K)
    assert float(bce().mean(bce().ignorant(zeros, sets[:3])[0], sets[:3])) == pytest.approx(math.log(2))
    mixed = 0.7 * F.one_hot(y, K).float() + 0.3 * F.one_hot(y.flip(0), K).float()
    thresholded = F.binary_cross_entropy_with_logits(logits, (mixed > 0.2).float())
    torch.testing.assert_close(bce(target_threshold=0.2).mean(logits, mixed), thresholded)


def test_metrics_of_sets_equal_torchmetrics_and_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score
    from torchmetrics.functional.classification import multilabel_f1_score

    logits, _, sets = drawn()
    for threshold in (0.5, 0.3):
        found = over_split(bce(threshold=threshold), logits, sets, 7, 33)
        expected = multilabel_f1_score(logits.detach(), sets.long(), K, threshold=threshold)
        assert found["f1"] == pytest.approx(float(expected), abs=1e-6)
        predicted = (logits.detach().sigmoid() >= threshold).numpy()
        assert found["exact_match"] == pytest.approx(accuracy_score(sets.numpy(), predicted))


def test_mixed_classes_have_an_accuracy_and_sets_have_none() -> None:
    logits, y, sets = drawn()
    mixed = 0.9 * F.one_hot(y, K).float() + 0.1 / K
    of_classes, of_sets = bce().fitted(splits(y, "classes")), bce().fitted(splits(sets, "labels"))
    assert of_classes.metrics(logits, mixed) == of_classes.metrics(logits, y)
    assert of_sets.metrics(logits, sets).keys() == {"exact_match"}


@pytest.mark.parametrize("y", ["classes", "shares"])
def test_focal_at_gamma_0_is_cross_entropy_bit_for_bit(y: str) -> None:
    logits, classes, _ = drawn()
    targets = classes if y == "classes" else F.one_hot(classes, K).float()
    ours, theirs = focal(gamma=0.0).mean(logits, targets), Classify().mean(logits, targets)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


def test_focal_has_the_closed_form() -> None:
    logits, y, _ = drawn()
    p = logits.softmax(1).gather(1, y[:, None])[:, 0]
    expected = -((1 - p) ** 2) * p.log()
    torch.testing.assert_close(focal().per_sample(logits, y), expected)
    torch.testing.assert_close(focal().per_sample(logits, F.one_hot(y, K).float()), expected)
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0])
    weighted = focal(class_weights=weights.tolist()).fitted(splits(y, "classes"))
    torch.testing.assert_close(weighted.per_sample(logits, y), expected * weights[y])
    torch.testing.assert_close(weighted.per_sample(logits, F.one_hot(y, K).float()), expected * weights[y])


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 0.5])
def test_the_sigmoid_form_equals_torchvisions(gamma: float, alpha: float | None) -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, _, sets = drawn()
    ours = focal(form="sigmoid", gamma=gamma, alpha=alpha).mean(logits, sets)
    theirs = sigmoid_focal_loss(logits, sets, -1 if alpha is None else alpha, gamma, "mean")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits)[0], torch.autograd.grad(theirs, logits)[0])


def test_focal_has_a_finite_gradient_for_a_certain_sample() -> None:
    logits = torch.tensor([[80.0, -80.0]], requires_grad=True)
    for form in ("softmax", "sigmoid"):
        loss = focal(form=form, gamma=0.5).mean(logits, torch.tensor([0]))
        assert bool(torch.autograd.grad(loss, logits)[0].isfinite().all())


@pytest.mark.parametrize("double", [False, True])
def test_soft_f1_of_hard_probabilities_is_one_minus_torchmetrics_f1(double: bool) -> None:
    from torchmetrics.functional.classification import multilabel_f1_score

    _, _, sets = drawn()
    predicted = sets.roll(3, 0)
    f1 = multilabel_f1_score(predicted, sets.long(), K)
    if double:
        f1 = (f1 + multilabel_f1_score(1 - predicted, 1 - sets.long(), K)) / 2
    loss = soft_f1(double).mean(200 * predicted - 100, sets)
    torch.testing.assert_close(1 - loss, f1, rtol=1e-5, atol=1e-6)


def test_soft_f1_of_a_split_does_not_depend_on_its_batches() -> None:
    logits, y, sets = drawn()
    for targets in (y, sets):
        whole, parts = (over_split(soft_f1(), logits, targets, *sizes) for sizes in ((40,), (3, 30, 7)))
        assert parts == pytest.approx(whole)
        assert whole["loss"] == pytest.approx(float(soft_f1().mean(logits, targets).detach()), rel=1e-5)


def test_a_class_that_a_batch_lacks_gives_soft_f1_no_gradient() -> None:
    logits, y, _ = drawn()
    y[y == 2] = 1
    grad = torch.autograd.grad(soft_f1().mean(logits, y), logits)[0]
    assert float(grad[:, 2].abs().max()) == 0 < float(grad[:, 1].abs().max())


def test_the_best_constant_of_soft_f1_predicts_every_label() -> None:
    _, _, sets = drawn()
    losses = {c: float(soft_f1().mean(torch.full((40, K), c), sets)) for c in (-2.0, 0.0, 2.0)}
    best = soft_f1().constant(sets, K)
    assert float(soft_f1().mean(best.expand(40, K), sets)) < min(losses.values())
    both = soft_f1(double=True)
    of_both = float(both.mean(both.constant(sets, K).expand(40, K), sets))
    assert all(of_both <= float(both.mean(torch.full((40, K), float(c)), sets)) for c in torch.linspace(-4, 4, 41))


def test_mse_equals_torchs_on_one_hot_classes_and_its_rescaling_the_closed_form() -> None:
    outputs, y, _ = drawn()
    one_hot = F.one_hot(y, K).float()
    torch.testing.assert_close(Mse(weight=1.0, target=1.0).mean(outputs, y), F.mse_loss(outputs, one_hot))
    scaled = Mse(weight=15.0, target=30.0)
    factors = torch.where(one_hot == 1, 15.0, 1.0)
    expected = (factors * (outputs - 30 * one_hot).square()).mean()
    torch.testing.assert_close(scaled.mean(outputs, y), expected)
    p = torch.tensor([[0.1, 0.2, 0.0, 0.65, 0.05]])
    torch.testing.assert_close(scaled.predict(scaled.wanted(p)), p)
    assert torch.equal(scaled.predict(-torch.ones(1, K)), torch.full((1, K), 1 / K))


def test_the_wanted_outputs_of_mse_are_its_minimum() -> None:
    objective, y = Mse(weight=3.0, target=2.0), torch.tensor([0, 0, 0, 1, 2, 2, 3, 4])
    best = objective.constant(y, K).requires_grad_()
    grad = torch.autograd.grad(objective.mean(best.expand(len(y), K), y), best)[0]
    assert float(grad.abs().max()) < 1e-6


def test_contrastive_has_hadsells_closed_form() -> None:
    pairs = torch.tensor([[[0.0, 0.0], [0.3, 0.4]], [[0.0, 0.0], [0.3, 0.4]], [[1.0, 1.0], [4.0, 5.0]]])
    found = Contrastive(margin=2.0, threshold=None).per_sample(pairs, torch.tensor([1, 0, 0]))
    torch.testing.assert_close(found, torch.tensor([0.125, 1.125, 0.0]))
    same = torch.zeros(1, 2, 3, requires_grad=True)
    loss = Contrastive(margin=1.0, threshold=None).mean(same, torch.tensor([0]))
    assert bool(torch.autograd.grad(loss, same)[0].isfinite().all())


def test_pairs_of_which_none_is_similar_have_no_curve_of_recall() -> None:
    objective = Contrastive(margin=1.0, threshold=None)
    outcome = objective.digest(torch.randn(3, 2, 4), torch.tensor([0, 0, 0]))
    sheet = SimpleNamespace(info=Info(Vector((2,)), "similarity", 2, ("different", "similar")))
    assert [make_section().title for make_section in objective.sections(outcome, sheet)] == [
        "Distances of the test pairs"
    ]


def test_the_loss_of_an_ignorant_model_is_as_it_is_described() -> None:
    logits, y, _ = drawn()
    outputs, said = focal().ignorant(logits.detach(), y)
    assert said == "(1 - 1/5)^2 ln 5"
    assert float(focal().mean(outputs, y)) == pytest.approx(0.8**2 * math.log(5))
    assert focal(form="sigmoid", alpha=0.25).ignorant(logits, y)[1] == "(1 - 1/2)^2 ln 2, times the weights"


def test_class_weights_equal_torchs_and_scikit_learns_balance() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    logits, y, sets = drawn()
    given = Classify(class_weights=[1.0, 2.0, 0.0, 0.5, 3.0]).fitted(splits(y, "classes"))
    expected = F.cross_entropy(logits, y, torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0]), reduction="none")
    torch.testing.assert_close(given.per_sample(logits, y), expected)
    torch.testing.assert_close(given.mean(logits, y), expected.mean())
    torch.testing.assert_close(given.mean(logits, F.one_hot(y, K).float()), expected.mean())
    balanced = Classify(class_weights="balanced").fitted(splits(y, "classes"))
    theirs = compute_class_weight("balanced", classes=torch.arange(K).numpy(), y=y.numpy())
    torch.testing.assert_close(balanced.weights, torch.tensor(theirs).float())
    torch.testing.assert_close(balanced.weights[y].mean(), torch.tensor(1.0))
    odds = bce(class_weights="balanced").fitted(splits(sets, "labels"))
    ratio = (len(sets) - sets.sum(0)) / sets.sum(0)
    expected = F.binary_cross_entropy_with_logits(logits, sets, pos_weight=ratio)
    torch.testing.assert_close(odds.mean(logits, sets), expected)
    assert float(odds.constant(sets, K).abs().max()) < 0.3  # balanced: even odds


@pytest.mark.parametrize(
    ("make_objective", "said"),
    [
        (lambda y, sets: Classify(class_weights=[1.0]).fitted(splits(y, "classes")), "has 1 numbers, and there are 5"),
        (lambda y, sets: Classify(class_weights=[-1.0]), "must be numbers >= 0"),
        (lambda y, sets: Mse(weight=1.0, target=1.0, class_weights="balanced"), "is for objective=classify, bce and"),
        (lambda y, sets: focal(alpha=0.25), "objective.form=sigmoid"),
        (lambda y, sets: focal(form="sigmoid", alpha=0.2, class_weights="balanced"), "Leave one out"),
        (lambda y, sets: focal().fitted(splits(sets, "labels")), "for one class a sample, and the targets are labels"),
        (lambda y, sets: bce(threshold=0.3).fitted(splits(y, "classes")), "threshold=0.3 is for sets of labels"),
        (lambda y, sets: focal(threshold=0.3).fitted(splits(y, "classes")), "threshold=0.3 is for sets of labels"),
        (lambda y, sets: bce().fitted(splits(3 * sets, "values")), "go from 0 to 3. Type objective=regress"),
        (
            lambda y, sets: Classify(class_weights="balanced").fitted(splits(y.clamp(max=3), "classes")),
            "class e has no training sample",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make_objective: Callable[[Tensor, Tensor], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        make_objective(*drawn()[1:])


def test_class_weights_of_another_type_are_told_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"class_weights=2 is not an option\. Allowed: balanced \| null \| a list\."):
        make("objective.class_weights=2")


def test_batches_of_soft_f1_are_not_cut_when_memory_runs_out() -> None:
    from mltricks.memory import with_smaller_micro_batches

    run = make("objective=soft_f1")
    with pytest.raises(ValueError, match="objective=soft_f1 compares the samples of a batch"):
        with_smaller_micro_batches(run, RuntimeError("out of memory"))


@pytest.mark.parametrize("name", ["classify", "bce"])
def test_rows_of_a_stack_with_class_weights_are_the_runs_alone(name: str) -> None:
    shared = [f"objective={name}", "objective.class_weights=balanced", "optim=sgd"]
    stacked = StackedRun([make(*shared, f"optim.lr={lr}") for lr in (0.01, 0.03)])
    losses = stacked.advance(3)["loss"]
    for k, lr in enumerate((0.01, 0.03)):
        assert losses[k].tolist() == pytest.approx(advance(make(*shared, f"optim.lr={lr}"), 3), rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "soft_f1", "mse"])
def test_an_objective_on_classes_learns(name: str) -> None:
    run = make(f"objective={name}", "optim.lr=0.01", "batch_size=64")
    losses = advance(run, 40)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_weights_of_classes_serve_evaluation_too(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    shared = [*TINY, "epochs=1", "hydra.run.dir=run"]
    assert run_cli(*shared, "objective.class_weights=balanced").status == 0
    assert run_cli("job=evaluate", "checkpoint=run", "hydra.run.dir=run").status == 0
    again = json.loads((tmp_path / "run/evaluation.json").read_text())["test"]
    assert again == pytest.approx(json.loads((tmp_path / "run/summary.json").read_text())["test"], rel=1e-6)


SETS = ["data=custom", "data._target_=contract_data.Sets", "allow_modules=[contract_data]", "model=mlp"]
TASKS = {
    "sets": [*SETS, "objective=bce"],
    "pairs": ["data=digit_pairs", "model=siamese", "objective=contrastive"],
}


@pytest.mark.parametrize(
    ("task", "column", "title"), [("sets", "labels", "Labels, the weakest"), ("pairs", "class", "Distances")]
)
def test_the_command_trains_reports_and_predicts(
    task: str, column: str, title: str, run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    shutil.copy(HERE / "contract_data.py", tmp_path)
    shared = [*TASKS[task], "model.width=16", "epochs=3", "optim.lr=0.01", "progress=none"]
    done = run_cli(*shared, "hydra.run.dir=run", "plots=true")
    assert done.status == 0, done.err
    assert title in (tmp_path / "run/report.html").read_text()
    assert json.loads((tmp_path / "run/summary.json").read_text())["val"].keys() >= {"loss"}
    assert (
        run_cli("job=predict", "checkpoint=run", "hydra.run.dir=predicted", "allow_modules=[contract_data]").status == 0
    )
    rows = [json.loads(line) for line in (tmp_path / "predicted/predictions.jsonl").read_text().splitlines()]
    right = sum(row["true"] == row[column] for row in rows)
    assert right > 0.6 * len(rows)


def test_sets_of_labels_come_as_bools_or_integers_with_names() -> None:
    _, _, sets = drawn(60)
    x = torch.randn(60, 3)
    for y in (sets.bool(), sets.long()):
        parts = tuple((x[i::3], y[i::3]) for i in range(3))
        info = splits_of(parts).info
        assert (info.target, info.num_outputs, info.class_names) == ("labels", K, tuple("01234"))
    dataset = TensorDataset(x, sets.bool())
    dataset.classes = tuple("abcde")
    node = make(*SETS, "objective=bce").cfg["data"]
    option = {field.name: node[field.name] for field in fields(Custom)}
    found = adapt(dataset, option)
    assert (found.info.target, found.info.classes) == ("labels", tuple("abcde"))
    assert found.train.y.dtype == torch.float32
    dataset.classes = ("a",)
    with pytest.raises(ValueError, match="sets of 5 labels, and `classes` has 1 names"):
        adapt(dataset, option)


def test_a_vector_of_one_is_no_set_of_labels() -> None:
    with pytest.raises(ValueError, match=r"y of sample 0 is \(1,\) torch\.int64.*vector of 2 bools or more"):
        as_target([1], "sample 0")
    assert torch.equal(as_target([1, 0], "sample 0"), torch.tensor([True, False]))


def test_an_objective_that_does_not_take_sets_names_those_that_do() -> None:
    with pytest.raises(
        ValueError,
        match=r"targets are labels\. Type objective=bce or objective=focal or objective=soft_f1\. If they are one-hot "
        r"classes, give y\.argmax\(-1\)",
    ):
        make(*SETS)


def test_metrics_of_torchmetrics_on_sets() -> None:
    run = make(*SETS, "objective=bce", "metric=[hamming_distance]")
    logits, sets = drawn()[0].detach(), drawn()[2]
    run.metrics = replace(run.metrics, objective=bce())
    meter = run.metrics.meter()
    meter({"y": sets[:, :3]}, logits[:, :3])
    expected = ((logits[:, :3].sigmoid() >= 0.5) != (sets[:, :3] == 1)).float().mean()
    assert meter.values()["hamming_distance"] == pytest.approx(float(expected))
