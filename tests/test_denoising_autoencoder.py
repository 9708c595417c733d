"""The denoising autoencoder: its noises in closed form, its loss by hand, and that it learns more than to copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, small_net
from contract import KINDS, advance, make
from torch import Tensor

import mltricks
from mltricks.functional.corruption import gaussian, masked, salt_and_pepper, swapped
from mltricks.inits.checkpoint import stored
from mltricks.objectives.classify import Classify
from mltricks.observers.run_page.reconstructions import reconstructed, reconstructions_section
from mltricks.state import leaves, map_state
from mltricks.step import gradient, onion
from mltricks.techniques.denoising_autoencoder import DenoisingAutoencoder

NAME = "denoising_autoencoder"
SETTINGS: dict[str, Any] = {"noise": "masking", "strength": 0.25, "decoder_width": 6, "probe": True}
VECTORS = [override.format(here="") for override in KINDS["vector"]]


@pytest.fixture(scope="module")
def noisy_x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(400, 3, 5, 5) + torch.arange(3.0).view(3, 1, 1) * 10


def test_masking_noise_sets_a_share_of_the_entries_to_zero(noisy_x: Tensor) -> None:
    found = masked(noisy_x, torch.tensor(0.25))
    assert 0.24 < float((found == 0).float().mean()) < 0.26
    assert torch.equal(found[found != 0], noisy_x[found != 0])
    assert torch.equal(masked(noisy_x, 0.0), noisy_x)
    assert not masked(noisy_x, 1.0).any()


def test_gaussian_noise_has_the_given_deviation(noisy_x: Tensor) -> None:
    difference = gaussian(noisy_x, torch.tensor(0.3)) - noisy_x
    assert abs(float(difference.std()) - 0.3) < 0.005
    assert abs(float(difference.mean())) < 0.01
    assert torch.equal(gaussian(noisy_x, 0.0), noisy_x)


def test_salt_and_pepper_are_the_extremes_by_a_fair_coin(noisy_x: Tensor) -> None:
    low, high = torch.tensor([-50.0, -51, -52]).view(3, 1, 1), torch.tensor([50.0, 51, 52]).view(3, 1, 1)
    found = salt_and_pepper(noisy_x, torch.tensor(0.4), low, high)
    pepper, salt = (found == low).float().mean(), (found == high).float().mean()
    assert abs(float(pepper) - 0.2) < 0.01
    assert abs(float(salt) - 0.2) < 0.01
    kept = (found != low) & (found != high)
    assert torch.equal(found[kept], noisy_x[kept])
    assert torch.equal(salt_and_pepper(noisy_x, 0.0, low, high), noisy_x)


def test_swap_noise_takes_the_same_entry_of_another_sample() -> None:
    torch.manual_seed(0)
    x = torch.arange(5.0).unsqueeze(1) + 100 * torch.arange(2000)  # the row in the units, the column in the rest
    found = swapped(x, 1.0)
    assert torch.equal(found // 100, x // 100), "of the same column"
    rows = (found % 100).long()
    assert bool((rows != torch.arange(5).unsqueeze(1)).all()), "never its own"
    share = torch.bincount(rows[0], minlength=5) / 2000
    assert share[0] == 0
    assert float((share[1:] - 0.25).abs().max()) < 0.04, "of every other sample as often"
    assert 0.14 < float((swapped(x, torch.tensor(0.15)) != x).float().mean()) < 0.16
    assert torch.equal(swapped(x, 0.0), x)
    assert torch.equal(swapped(x[:2], 1.0), x[:2].flip(0)), "of two samples it is the other"


def test_loss_is_the_squared_error_of_the_clean_input() -> None:
    batch, module = images(6), small_net()
    technique = DenoisingAutoencoder(**{**SETTINGS, "probe": False})
    params, own = technique.setup(module, params_of(module), batch, 0)
    torch.manual_seed(6)
    noisy = torch.where(torch.rand(6, 1, 8, 8) < 0.25, 0.0, batch["x"])
    p = {name.removeprefix(f"{NAME}/"): p.clone().requires_grad_() for name, p in params.items() if "/" in name}
    hidden = F.linear(module[:5](noisy), p["hidden.weight"], p["hidden.bias"]).relu()
    found = F.linear(hidden, p["output.weight"], p["output.bias"])
    loss = (found - batch["x"].flatten(1)).square().sum() / (6 * 64)
    expected = torch.autograd.grad(loss, [module[0].weight, p["output.weight"]])
    torch.manual_seed(6)
    grads, aux = gradient(technique.loss(Classify()))(params, batch, context(module, {NAME: own}).scope(NAME))
    torch.testing.assert_close(aux["metrics"]["loss"], loss.detach())
    torch.testing.assert_close(aux["metrics"]["noise_error"], (noisy - batch["x"]).square().mean())
    torch.testing.assert_close(grads["0.weight"], expected[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(grads[f"{NAME}/output.weight"], expected[1], rtol=1e-4, atol=1e-7)


def test_features_learn_nothing_from_the_labels() -> None:
    batch, module, found = images(6), small_net(), []
    technique = DenoisingAutoencoder(**SETTINGS)
    params, own = technique.setup(module, params_of(module), batch, 0)
    for y in (batch["y"], batch["y"].roll(1)):
        torch.manual_seed(6)
        loss = onion({NAME: technique}, "loss", Classify())
        found.append(gradient(loss)(params, {**batch, "y": y}, context(module, {NAME: own}))[0])
    for name in params:
        assert torch.equal(found[0][name], found[1][name]) is not name.startswith("5."), name


@pytest.mark.parametrize("noise", ["masking", "gaussian", "salt_and_pepper", "swap"])
def test_every_noise_draws_on_images_and_vectors(noise: str) -> None:
    for x in (torch.randn(5, 2, 4, 4), torch.randn(5, 7)):
        technique = DenoisingAutoencoder(**{**SETTINGS, "noise": noise})
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x[0].numel(), 3), torch.nn.Linear(3, 4))
        _, own = technique.setup(net, params_of(net), {"x": x, "y": torch.zeros(5)}, 0)
        corrupted = technique.corrupt(x, context(net, {NAME: own}).scope(NAME))
        assert corrupted.shape == x.shape
        assert not torch.equal(corrupted, x)
        if noise == "salt_and_pepper":
            assert set(corrupted[corrupted != x].tolist()) <= {v for t in own.values() for v in t.flatten().tolist()}


def test_the_decoder_may_be_one_layer() -> None:
    module, batch = small_net(), images(4)
    technique = DenoisingAutoencoder(**{**SETTINGS, "decoder_width": 0})
    params, own = technique.setup(module, params_of(module), batch, 0)
    assert {name: tuple(p.shape) for name, p in params.items() if "/" in name} == {
        f"{NAME}/output.weight": (64, 8),
        f"{NAME}/output.bias": (64,),
    }
    found = technique.reconstruct(params, batch["x"], context(module, {NAME: own}).scope(NAME))
    assert [tuple(step.shape) for step in found.steps.values()] == [(4, 1, 8, 8)] * 3


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strength=1\.5 is the share of entries that noise=swap changes"):
        DenoisingAutoencoder(**{**SETTINGS, "noise": "swap", "strength": 1.5})
    assert DenoisingAutoencoder(**{**SETTINGS, "noise": "gaussian", "strength": 1.5}).strength == 1.5


@pytest.mark.parametrize("batches", [["batch_size=1"], ["data.limit=65", "data.drop_last=false"]])
def test_swap_noise_needs_other_samples_in_every_batch(batches: list[str]) -> None:
    given = [f"technique={NAME}", "model=mlp", *batches]
    make(*given)
    with pytest.raises(ValueError, match="denoising_autoencoder cannot work on a batch of one sample"):
        make(*given, f"technique.{NAME}.noise=swap")


@pytest.mark.parametrize("noise", ["masking", "gaussian", "salt_and_pepper", "swap"])
def test_it_learns_more_than_to_copy(noise: str) -> None:
    """At noise that it never saw, on the test split, its error is below that of the noisy inputs themselves."""
    strength = f"technique.{NAME}.strength={0.8 if noise == 'gaussian' else 0.3}"
    run = make(f"technique={NAME}", f"technique.{NAME}.noise={noise}", strength, "model=mlp", "model.width=64")
    advance(run, 100)
    state, random = map_state(Tensor.clone, run.state), torch.get_rng_state()
    found = reconstructed(run, NAME)
    assert float(found.error) < 0.8 * float(found.trivial)
    assert torch.equal(random, torch.get_rng_state()), "the page reads only"
    assert all(torch.equal(a, b) for a, b in zip(leaves(state), leaves(run.state), strict=True))


def test_the_page_of_vectors_has_errors_and_no_pictures() -> None:
    run = make(f"technique={NAME}", *VECTORS)
    section = reconstructions_section(run)
    assert section is not None
    assert [part.kind for part in section.parts] == ["table", "text"]
    assert reconstructions_section(make("model=mlp")) is None


def test_a_run_shows_reconstructions_and_the_next_starts_without_the_decoder(tmp_path: Path) -> None:
    small = ["model=vit", "model.patch=2", "model.depth=1", "model.width=8", "data.limit=64", "max_steps=2"]
    settings = [*small, "progress=none", "metric=none"]
    mltricks.train(mltricks.compose([*settings, "technique=mae", "plots=true"]), folder=tmp_path / "first")
    page = (tmp_path / "first/report.html").read_text()
    assert "Reconstructions" in page
    assert "mean squared error of hidden patches, each normalised" in page
    assert (tmp_path / "first/plots/reconstructions.png").stat().st_size > 500
    weights = stored(tmp_path / "first")
    assert "blocks.0.attention.branch.mix.qkv.weight" in weights
    assert not any(name.startswith("mae/") for name in weights)
    second = ["init=checkpoint", f"init.checkpoint={tmp_path / 'first'}", "init.exclude=head.*", "optim.lr=1e-9"]
    run = make(*[o for o in small if not o.startswith("max_steps")], *second)
    assert torch.equal(run.state["params"]["patches.weight"], weights["patches.weight"])
    assert not any("/" in name for name in run.state["params"])
