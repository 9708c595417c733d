"""SimCLR: its loss compared with an independent one, which loss trains which weights, and its views."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import CLASSES, context, images, params_of, small_net
from contract import advance, make
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional.last_linear import last_linear
from mltricks.functional.views import adjust, color_jitter, resized_crop, warp
from mltricks.objectives.classify import Classify
from mltricks.step import gradient, onion
from mltricks.techniques.simclr import Simclr, nt_xent

SETTINGS: dict[str, Any] = {
    "temperature": 0.5,
    "min_scale": 0.3,
    "color": 0.4,
    **{name: 0.0 for name in ("brightness", "contrast", "saturation", "hue")},
    **{name: None for name in ("p_jitter", "p_grey", "p_blur")},
    "flip": True,
    "projection_width": 6,
    "probe": True,
}


def slow_nt_xent(z: Tensor, temperature: float) -> float:
    """Equation 1 and algorithm 1 of the paper, view by view, in double precision."""
    rows = [row / row.norm() for row in z.double()]
    total, half = 0.0, len(rows) // 2
    for i, row in enumerate(rows):
        exps = [math.exp(float(row @ other) / temperature) for other in rows]
        total += -math.log(exps[(i + half) % len(rows)] / (sum(exps) - exps[i]))
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_equals_that_of_two_plain_loops(temperature: float) -> None:
    z = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)) * 3
    expected = slow_nt_xent(z, temperature)
    assert float(nt_xent(z, temperature)[0]) == pytest.approx(expected, rel=1e-5)
    assert float(nt_xent(z, torch.tensor(temperature))[0]) == pytest.approx(expected, rel=1e-5)


def test_loss_of_orthogonal_samples_has_a_closed_form() -> None:
    z = torch.eye(4).repeat(2, 1)  # the two views of a sample are equal, all others orthogonal
    loss, accuracy = nt_xent(z, 0.5)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 6) - 2)
    assert float(accuracy) == 1.0


def test_the_loss_does_not_depend_on_the_length_of_a_vector() -> None:
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(nt_xent(z * torch.arange(1.0, 9.0).unsqueeze(1), 0.5)[0], nt_xent(z, 0.5)[0])


def gradients(batch: Batch, **changes: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradients of the first step and its metrics."""
    module = small_net()
    technique = Simclr(**{**SETTINGS, **changes})
    torch.manual_seed(5)
    params, _ = technique.setup(module, params_of(module), batch, 0)
    loss = onion({"simclr": technique}, "loss", Classify())
    torch.manual_seed(6)
    grads, aux = gradient(loss)(params, batch, context(module))
    return grads, aux["metrics"]


def test_features_learn_nothing_from_the_labels() -> None:
    batch = images(12)
    permuted = {**batch, "y": batch["y"].roll(1)}
    mine, others = gradients(batch)[0], gradients(permuted)[0]
    for name in mine:
        equal = torch.equal(mine[name], others[name])
        assert equal is not name.startswith("5."), f"{name}: only the head sees labels"
        assert bool(mine[name].any()), f"{name} is trained"


def test_probe_is_the_objective_on_the_features_of_evaluation() -> None:
    batch, module = images(12), small_net()
    grads, metrics = gradients(batch)
    head = {name: p.requires_grad_() for name, p in params_of(module).items() if name.startswith("5.")}
    logits = F.linear(module[:5](batch["x"]).detach(), head["5.weight"], head["5.bias"])
    loss = F.cross_entropy(logits, batch["y"])
    for name, expected in zip(head, torch.autograd.grad(loss, list(head.values())), strict=True):
        torch.testing.assert_close(grads[name], expected)
    accuracy = (logits.argmax(1) == batch["y"]).float().mean()
    torch.testing.assert_close(metrics["accuracy"], accuracy)
    torch.testing.assert_close(metrics["loss"], metrics["contrastive_loss"] + loss.detach())


def test_without_probe_the_head_stays_and_labels_are_not_read() -> None:
    grads, metrics = gradients({"x": images(12)["x"]}, probe=False)
    assert not grads["5.weight"].any()
    assert not grads["5.bias"].any()
    assert "accuracy" not in metrics
    torch.testing.assert_close(grads["0.weight"], gradients(images(12))[0]["0.weight"])


def test_contrastive_gradient_flows_into_both_views() -> None:
    """The gradient equals that of the paper's loss, computed directly on the same random draws."""
    batch, module = images(6), small_net()
    technique = Simclr(**{**SETTINGS, "probe": False})
    torch.manual_seed(5)
    params, _ = technique.setup(module, params_of(module), batch, 0)
    torch.manual_seed(6)
    views = color_jitter(resized_crop(torch.cat([batch["x"], batch["x"]]), 0.3, True), 0.4)
    p = {name: value.clone().requires_grad_() for name, value in params.items() if name.startswith("simclr/")}
    z = F.linear(module[:5](views), p["simclr/0.weight"], p["simclr/0.bias"]).relu()
    z = F.normalize(F.linear(z, p["simclr/2.weight"], p["simclr/2.bias"]), dim=1)
    similarity = (z @ z.T / 0.5).exp()
    others = similarity.sum(1) - similarity.diagonal()
    loss = -(similarity[torch.arange(12), torch.arange(12).roll(6)] / others).log().mean()
    expected = torch.autograd.grad(loss, [module[0].weight, p["simclr/2.weight"]])
    grads, _ = gradients(batch, probe=False)
    torch.testing.assert_close(grads["0.weight"], expected[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(grads["simclr/2.weight"], expected[1], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_training_makes_views_of_a_sample_alike_and_the_probe_good() -> None:
    run = make("technique=simclr", "technique.simclr.color=0.4", "model.width=8", "optim.lr=3e-3", "batch_size=64")
    advance(run, 1)
    before = run.step(run.state, next(run.source.stream(0)), run.hypers.at(1))[1]
    before = {name: float(value) for name, value in before.items()}
    advance(run, 19, start=1)
    after = run.step(run.state, next(run.source.stream(0)), run.hypers.at(19))[1]
    assert float(after["contrastive_accuracy"]) > before["contrastive_accuracy"] + 0.05
    assert float(after["accuracy"]) > before["accuracy"] + 0.2


def test_it_needs_a_linear_output_layer() -> None:
    batch, technique = images(4), Simclr(**SETTINGS)
    no_linear = nn.Sequential(nn.Conv2d(1, CLASSES, 8), nn.Flatten())
    with pytest.raises(ValueError, match=r"technique=simclr .* has no linear layer"):
        technique.setup(no_linear, params_of(no_linear), batch, 0)
    goes_on = nn.Sequential(small_net(), nn.Tanh())
    with pytest.raises(ValueError, match=r"the last linear layer of Sequential is 0\.5"):
        technique.setup(goes_on, params_of(goes_on), batch, 0)


def test_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="technique=simclr cannot work on a batch of one sample, and batch_size=1"):
        make("technique=simclr", "batch_size=1")


def test_last_linear_is_by_registration() -> None:
    assert last_linear(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2))}), "x") == "b.0"


def test_crop_of_a_ramp_is_a_less_steep_ramp() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(32.0).expand(200, 1, 32, 32)
    slope = resized_crop(ramp, 0.25, flip=True)[:, 0].diff(dim=2)[:, :, 8:24]  # the border repeats its last pixel
    assert torch.allclose(slope, slope[:, :1, :1].expand_as(slope), atol=1e-3)
    steepness = slope[:, 0, 0].abs()
    assert float(steepness.min()) >= 0.25**0.5 * (3 / 4) ** 0.5 - 1e-3
    assert float(steepness.max()) <= 1.001
    assert 70 < int((slope[:, 0, 0] < 0).sum()) < 130, "about half are mirrored"
    assert (resized_crop(ramp, 0.25, flip=False)[:, 0].diff(dim=2) >= 0).all()


def test_warp_turns_as_torch_does() -> None:
    x = torch.randn(2, 3, 6, 6)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).expand(2, 2, 2)
    torch.testing.assert_close(warp(x, quarter, torch.zeros(2, 2)), x.rot90(1, (2, 3)))


def test_colour_adjustments_equal_torchvisions() -> None:
    from torchvision.transforms.v2 import functional as T

    x = torch.rand(2, 3, 5, 5) * 0.4 + 0.3  # nothing is clipped
    zero, by = torch.zeros(2, 1, 1, 1), torch.full((2, 1, 1, 1), 0.2)
    grey = x.mean(1, keepdim=True)
    torch.testing.assert_close(adjust(x, zero, zero, zero), x)
    torch.testing.assert_close(adjust(x, by, zero, zero), x + 0.2)
    one_channel = x[:, :1].expand(2, 3, 5, 5)
    torch.testing.assert_close(
        adjust(one_channel, zero, by, zero), T.adjust_contrast(one_channel, 1.2), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(adjust(x, zero, zero, by), grey + 1.2 * (x - grey))
