"""Pseudo-labels, mean teacher and FixMatch: losses against hand-written ones, ramps, metrics and averages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import CLASSES, context, images, params_of, sgd, small_net, train
from contract import advance, make
from torch import Tensor

import mltricks
from mltricks.batch import Batch
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.functional.images.spaces import fixmatch_space
from mltricks.functional.pseudo_labels import exponential_ramp, linear_ramp, watched
from mltricks.functional.strong_augment import cut_out, randaugmented
from mltricks.objectives.classify import Classify
from mltricks.step import gradient, onion
from mltricks.techniques.ema import Ema
from mltricks.techniques.mean_teacher import MeanTeacher
from mltricks.techniques.pseudo_label import PseudoLabel

LABELS: dict[str, Any] = {"weight": 3.0, "threshold": 0.3, "ramp_start_frac": 0.2, "ramp_end_frac": 0.6}
TEACHER: dict[str, Any] = {
    **{"weight": 50.0, "ramp_frac": 0.5, "decay": 0.9, "warmup": False},
    **{"max_shift": 0.125, "flip": True, "noise": 0.15},
}


def batch_of(labelled: int = 6, unlabelled: int = 10, seed: int = 0) -> Batch:
    return {**images(labelled, seed), "x_unlabeled": images(unlabelled, seed + 100)["x"]}


def taken(technique: Any, module: Any, batch: Batch, progress: float) -> tuple[dict[str, Tensor], Any, Any]:
    """Gradients, metrics and context of one step's loss; the technique's draws begin at seed 6."""
    name = type(technique).__name__
    ctx = context(module, {name: technique.setup(module, params_of(module), batch, 0)[1]})
    ctx.progress = progress
    torch.manual_seed(6)
    grads, aux = gradient(onion({name: technique}, "loss", Classify()))(params_of(module), batch, ctx)
    return grads, aux["metrics"], ctx


def assert_gradients(grads: dict[str, Tensor], loss: Tensor, module: Any) -> None:
    for name, p in module.named_parameters():
        expected = torch.autograd.grad(loss, p, retain_graph=True)[0]
        torch.testing.assert_close(grads[name], expected, rtol=1e-5, atol=1e-6, msg=name)


def test_ramps_at_their_ends_and_between() -> None:
    assert [float(linear_ramp(p, 0.2, 0.6)) for p in (0.0, 0.2, 0.6, 0.9)] == [0.0, 0.0, 1.0, 1.0]
    assert float(linear_ramp(0.3, 0.2, 0.6)) == pytest.approx(0.25)
    assert [float(linear_ramp(p, 0.4, 0.4)) for p in (0.3, 0.5)] == [0.0, 1.0], "a ramp without length is a switch"
    for p in (0.0, 0.1, 0.3):
        assert float(exponential_ramp(p, 0.4)) == pytest.approx(math.exp(-5 * (1 - p / 0.4) ** 2), rel=1e-5)
    assert float(exponential_ramp(0.4, 0.4)) == float(exponential_ramp(0.0, 0.0)) * 0 + 1


@pytest.mark.parametrize(("progress", "ramp"), [(0.1, 0.0), (0.3, 0.25), (0.8, 1.0)])
def test_pseudo_labels_equal_a_loss_written_by_hand(progress: float, ramp: float) -> None:
    module, batch = small_net(norm=True), batch_of()
    grads, metrics, ctx = taken(PseudoLabel(**LABELS), module, batch, progress)
    module.train()
    loss = F.cross_entropy(module(batch["x"]), batch["y"])
    statistics = module[1].running_mean.clone()
    logits = module(batch["x_unlabeled"])
    p, label = logits.softmax(1).max(1)
    losses = [F.cross_entropy(row[None], k[None]) for row, k, top in zip(logits, label, p, strict=True) if top >= 0.3]
    assert 0 < len(losses) < 10
    term = torch.stack(losses).sum() / 10
    assert float(metrics["unlabeled_loss"]) == pytest.approx(term.item(), rel=1e-5)
    assert float(metrics["mask_rate"]) == pytest.approx(len(losses) / 10)
    assert_gradients(grads, loss + 3.0 * ramp * term, module)
    torch.testing.assert_close(ctx.buffers["1.running_mean"], statistics, msg="statistics are of the labelled pass")


def test_a_ramp_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ramp_end_frac=0.1 lies before ramp_start_frac=0.2"):
        PseudoLabel(**{**LABELS, "ramp_end_frac": 0.1})


def test_the_mean_teachers_term_equals_one_written_by_hand() -> None:
    module, batch, technique = small_net(norm=True), batch_of(), MeanTeacher(**TEACHER)
    grads, metrics, ctx = taken(technique, module, batch, 0.25)
    module.train()
    torch.manual_seed(6)
    student = module(torch.cat([batch["x"], technique.view(batch["x_unlabeled"])]))
    statistics = module[1].running_mean.clone()
    with torch.no_grad():  # at the first step the teacher has the weights of the student
        teacher = module(technique.view(torch.cat([batch["x"], batch["x_unlabeled"]])))
    squares = (student.softmax(1) - teacher.softmax(1)).square().sum(1)
    term = squares.sum() / CLASSES / 16
    loss = F.cross_entropy(student[:6], batch["y"]) + 50 * math.exp(-5 * 0.25) * term
    assert float(metrics["consistency_loss"]) == pytest.approx(term.item(), rel=1e-5)
    assert_gradients(grads, loss, module)
    torch.testing.assert_close(ctx.buffers["1.running_mean"], statistics, msg="statistics are of the student's pass")


def test_the_teacher_is_the_average_of_technique_ema() -> None:
    batches = [batch_of(seed=seed) for seed in range(5)]
    module = small_net(norm=True)
    history = train(module, batches, sgd(0.1), teacher=MeanTeacher(**TEACHER))
    ema = Ema(decay=0.9, warmup=False)
    own: Any = ema.setup(module, params_of(module), batches[0], 0)[1]
    for state, _ in history:
        ctx = context(module, {"ema": own}).scope("ema")
        ctx.buffers = state["buffers"]
        own = ema.after(state["params"], ctx, {})[1]
        for kind in ("params", "buffers"):
            for name, average in own[kind].items():
                assert torch.equal(state["own"]["teacher"][kind][name], average), name
    assert not torch.equal(own["params"]["0.weight"], history[-1][0]["params"]["0.weight"])


def test_the_teacher_forgets_its_first_weights_soon() -> None:
    module = small_net()
    first = params_of(module)["0.weight"]
    history = train(module, [batch_of()], sgd(0.1), teacher=MeanTeacher(**{**TEACHER, "warmup": True}))
    state = history[0][0]
    expected = (first + state["params"]["0.weight"]) / 2  # min(0.9, 1 - 1/2) at the first update
    torch.testing.assert_close(state["own"]["teacher"]["params"]["0.weight"], expected)


def test_the_teacher_predicts() -> None:
    run = make("technique=[mean_teacher]", "data.unlabeled_ratio=1", "technique.mean_teacher.warmup=false")
    advance(run, 3)
    x = next(run.data.val.batches([torch.arange(4)]))["x"]
    own = run.state["own"]["mean_teacher"]
    buffers = {**run.state["buffers"], **own["buffers"]}
    expected = run.model(own["params"], buffers, run.data.info.normalize(x), False)[0]
    torch.testing.assert_close(run.predict(run.state, x), expected)
    now = run.model(run.state["params"], run.state["buffers"], run.data.info.normalize(x), False)[0]
    assert not torch.allclose(now, expected)


def test_fixmatch_with_the_sources_operations_equals_a_loss_written_by_hand() -> None:
    run = make("technique=[fixmatch]", "data.unlabeled_ratio=2", "technique.fixmatch.space=randaugment", "batch_size=8")
    technique: Any = run.techniques["fixmatch"]
    raw, ctx = next(run.batches()), context(run.model.module)
    torch.manual_seed(3)
    viewed = technique.batch(raw, ctx)
    viewed = {k: run.data.info.normalize(v) if k in ("x", "x_unlabeled", "x_strong") else v for k, v in viewed.items()}
    torch.manual_seed(4)
    strong = cut_out(viewed["x_strong"], torch.rand(16, 2), 0.5)
    module = run.model.module.train()
    logits = module(torch.cat([viewed["x"], viewed["x_unlabeled"], strong]))
    labelled, weak, strong = logits.split([8, 16, 16])
    p, label = weak.softmax(1).max(1)
    threshold = p.median().item() - 1e-6
    total = sum(-s.log_softmax(0)[k] for s, k, top in zip(strong, label, p, strict=True) if top >= threshold)
    loss = F.cross_entropy(labelled, viewed["y"]) + total / 16
    object.__setattr__(technique, "threshold", threshold)
    torch.manual_seed(4)
    grads, aux = gradient(onion({"fixmatch": technique}, "loss", Classify()))(run.state["params"], viewed, ctx)
    assert 0 < float(aux["metrics"]["mask_rate"]) < 1
    assert_gradients(grads, loss, module)
    hidden = raw["y_unlabeled"]
    assert float(aux["metrics"]["unlabeled_accuracy"]) == pytest.approx(float((label == hidden).float().mean()))
    wrong = ((label != hidden) & (p >= threshold)).float().mean()
    assert float(aux["metrics"]["wrong_rate"]) == pytest.approx(float(wrong))


def test_the_sources_space() -> None:
    space = fixmatch_space(20, 40)
    assert len(space) == 14
    ends = {name: (span.weakest, span.strongest) for name, span in space.items() if span is not None}
    assert ends["brightness"] == ends["contrast"] == ends["saturation"] == ends["sharpness"] == (0.05, 0.95)
    assert (ends["translate_x"], ends["translate_y"]) == ((0.0, 12.0), (0.0, 6.0))
    assert (ends["posterize"], ends["rotate"], ends["shear_x"]) == ((8.0, 4.0), (0.0, 30.0), (0.0, 0.3))


def test_strong_views_of_pixels_differ_and_their_border_is_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.full((56, 1, 12, 12), 200, dtype=torch.uint8)
    assert torch.equal(randaugmented(x, 0, 77), x)
    views = randaugmented(x, 1, 77)
    changed = {tuple(v.unique().tolist()) for v in views}
    assert views.dtype == torch.uint8
    assert (77, 200) in changed, "moved images show the given value outside"


def test_what_is_watched_has_its_closed_forms() -> None:
    same, equal = torch.zeros(6, 4), torch.zeros(4, 4)
    same[:, 2], equal[range(4), range(4)] = 1e4, 1e4
    assert float(watched(same, {})["unlabeled_kl"]) == pytest.approx(math.log(4))
    assert float(watched(equal, {})["unlabeled_kl"]) == pytest.approx(0.0, abs=1e-6)
    hidden = {"y_unlabeled": torch.tensor([2, 2, 0, -1, -1, 1])}
    found = watched(same, hidden, torch.tensor([1.0, 0, 1, 1, 0, 0]))
    assert float(found["unlabeled_accuracy"]) == 0.5
    assert float(found["wrong_rate"]) == 0.25, "of the four known ones, one is wrong and trained on"
    assert "wrong_rate" not in watched(same, hidden)
    assert float(watched(same, {"y_unlabeled": torch.full((6,), -1)})["unlabeled_accuracy"]) == 0.0


@pytest.mark.parametrize("name", ["fixmatch", "mean_teacher", "pseudo_label"])
def test_a_run_without_augmented_labelled_samples_says_so(name: str) -> None:
    overrides = [f"technique=[{name}]", "data.unlabeled_ratio=1"]
    assert [m for m in make(*overrides).messages if "no labelled sample is augmented" in m]
    assert not [m for m in make(*overrides, "augment=crop").messages if "no labelled sample is augmented" in m]


def test_the_sources_operations_need_pixels() -> None:
    with pytest.raises(ValueError, match=r"Put fixmatch before cutout"):
        make(
            "technique=[fixmatch]",
            "augment=cutout",
            "data.unlabeled_ratio=1",
            "technique.fixmatch.space=randaugment",
        )


@pytest.mark.parametrize("name", ["fixmatch", "mean_teacher", "pseudo_label"])
def test_an_experiment_trains_on_the_digits_too(name: str) -> None:
    small = ["data=digits", "batch_size=8", "model.width=4"]
    run = build(plain(mltricks.compose([f"experiment={name}", *small])))
    assert run.total_steps == 2000
    assert all(math.isfinite(loss) for loss in advance(run, 2))
    assert not [m for m in run.messages if "no labelled sample is augmented" in m]
