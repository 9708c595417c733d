"""Initialisations: the variance of the paper's formula on real layers, orthogonality, and clear refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mltricks
from mltricks.batch import Batch
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.create import create
from mltricks.construct import create_model

INITS = ["xavier", "kaiming", "orthogonal", "normal"]


def make(name: str, **changes: Any) -> Any:
    """The initialisation as its YAML configures it, with some values changed."""
    node = plain(mltricks.compose([f"init={name}"]))["init"]
    return create({**node, **changes}, "init")


class Net(nn.Module):
    """Layers of every kind, large enough to measure a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(300, 200)
        self.conv = nn.Conv2d(32, 64, 3)
        self.transposed = nn.ConvTranspose2d(48, 64, 3)
        self.wave = nn.Conv1d(32, 128, 5)
        self.norm = nn.BatchNorm2d(64)
        self.embedding = nn.Embedding(50, 30)
        self.lstm = nn.LSTM(8, 8)
        self.activation = nn.GELU()


def drawn(init: Any, seed: int = 0) -> Net:
    torch.manual_seed(1)
    net = Net()
    torch.manual_seed(seed)
    init(net)
    return net


FANS = {
    "linear": (300, 200),
    "conv": (32 * 9, 64 * 9),
    "transposed": (64 * 9, 48 * 9),  # torch takes the second axis of a weight as its fan-in
    "wave": (32 * 5, 128 * 5),
}
E_GELU_SQUARED = 1 / 3 + 1 / (2 * math.pi * 3**0.5)
"""E[gelu(z)^2] = E[z^2 Phi(z)^2] of standard normal z, in closed form."""
VARIANCES = {
    "xavier normal": ("xavier", {"distribution": "normal"}, lambda i, o: 2 / (i + o)),
    "xavier uniform gain": ("xavier", {"distribution": "uniform", "gain": 1.5}, lambda i, o: 1.5**2 * 2 / (i + o)),
    "kaiming": ("kaiming", {}, lambda i, o: 2 / i),
    "kaiming fan_out uniform": ("kaiming", {"mode": "fan_out", "distribution": "uniform"}, lambda i, o: 2 / o),
    "kaiming linear": ("kaiming", {"nonlinearity": "linear"}, lambda i, o: 1 / i),
    "kaiming auto": ("kaiming", {"nonlinearity": "auto"}, lambda i, o: 1 / E_GELU_SQUARED / i),
    "xavier auto": ("xavier", {"gain": "auto"}, lambda i, o: 1 / E_GELU_SQUARED * 2 / (i + o)),
    "normal": ("normal", {"std": 0.3}, lambda i, o: 0.09),
    "xavier_normal": ("xavier_normal", {}, lambda i, o: 2 / (i + o)),
    "kaiming_uniform": ("kaiming_uniform", {}, lambda i, o: 2 / i),
    "kaiming leaky": ("kaiming", {"nonlinearity": "leaky_relu", "negative_slope": 0.5}, lambda i, o: 2 / 1.25 / i),
}


@pytest.mark.parametrize("case", VARIANCES)
def test_the_variance_is_that_of_the_formula(case: str) -> None:
    name, changes, variance = VARIANCES[case]
    net = drawn(make(name, **changes))
    for layer, (fan_in, fan_out) in FANS.items():
        weight = net.get_parameter(f"{layer}.weight").detach()
        # six standard errors of the sample variance of normal numbers
        assert float(weight.var()) == pytest.approx(variance(fan_in, fan_out), rel=6 * (2 / weight.numel()) ** 0.5)
        assert abs(float(weight.mean())) < 6 * (variance(fan_in, fan_out) / weight.numel()) ** 0.5


def test_uniform_weights_are_bounded_and_normal_ones_are_not() -> None:
    bound = (6 / 500) ** 0.5
    uniform = drawn(make("xavier", distribution="uniform")).linear.weight
    normal = drawn(make("xavier", distribution="normal")).linear.weight
    assert 0.99 * bound < float(uniform.detach().abs().max()) <= bound
    assert float(normal.detach().abs().max()) > bound


def test_kaiming_keeps_the_scale_of_activations_through_relu() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.ReLU())]
    deep = nn.Sequential(*layers)
    x = torch.randn(64, 256)
    with torch.no_grad():
        faded = float(deep(x).pow(2).mean())
        make("kaiming")(deep)
        kept = 2 * float(deep(x).pow(2).mean())  # ReLU halves the second moment
    assert faded < 1e-3, "with torch's default they fade; otherwise this test proves nothing"
    assert 0.2 < kept < 5


@pytest.mark.parametrize("gain", [1.0, 1.4142])
def test_rows_or_columns_are_orthogonal(gain: float) -> None:
    net = drawn(make("orthogonal", gain=gain))
    for layer in FANS:
        weight = net.get_parameter(f"{layer}.weight").detach().flatten(1).double()
        product = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(product, gain**2 * torch.eye(len(product)).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", INITS)
def test_other_layers_are_untouched_and_biases_follow_the_setting(name: str) -> None:
    torch.manual_seed(1)
    before = Net()
    zero, keep = drawn(make(name, biases="zero")), drawn(make(name, biases="keep"))
    untouched = ("norm", "embedding", "lstm")
    for key, value in before.named_parameters():
        layer, kind = key.split(".")
        if layer in untouched:
            assert torch.equal(zero.get_parameter(key), value)
        elif kind == "bias":
            assert not zero.get_parameter(key).any()
            assert torch.equal(keep.get_parameter(key), value)
        else:
            assert not torch.equal(zero.get_parameter(key), value)


@pytest.mark.parametrize("name", INITS)
def test_the_seed_determines_the_weights(name: str) -> None:
    init = make(name)
    assert torch.equal(drawn(init, 3).conv.weight, drawn(init, 3).conv.weight)
    assert not torch.equal(drawn(init, 3).conv.weight, drawn(init, 4).conv.weight)


def small(*overrides: str) -> Run:
    return build(plain(mltricks.compose(["data.limit=64", "batch_size=16", "model=mlp", "model.width=64", *overrides])))


@pytest.mark.parametrize("name", INITS)
def test_a_run_starts_from_the_initialised_weights(name: str) -> None:
    def params(*overrides: str) -> dict[str, Tensor]:
        return small(*overrides).state["params"]

    first, again, other = (params(f"init={name}", f"seed={seed}") for seed in (5, 5, 6))
    assert torch.equal(first["head.weight"], again["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert params("seed=5")["head.bias"].any(), "torch's default initialises it at random"
    assert not first["head.bias"].any()


@dataclass(frozen=True)
class UnitHead:
    """Scales the head so that its output on the batch has standard deviation ``std``."""

    std: float = 1.0

    def __call__(self, model: nn.Module, batch: Batch) -> None:
        with torch.no_grad():
            model.get_parameter("head.weight").normal_()
            model.get_parameter("head.bias").zero_()
            model.get_parameter("head.weight").mul_(self.std / model(batch["x"]).std())


def test_an_initialisation_may_see_the_first_batch() -> None:
    own = [f"init._target_={__name__}.UnitHead", f"allow_modules=[{__name__}]"]
    run, again, other = (small(*own, f"seed={seed}") for seed in (5, 5, 6))
    batch = run.data.info.normalize(next(run.batches())["x"])
    module = run.model.module
    module.load_state_dict(run.state["params"])
    assert module(batch).std().item() == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(run.state["params"]["head.weight"], again.state["params"]["head.weight"])
    assert not torch.equal(run.state["params"]["head.weight"], other.state["params"]["head.weight"])
    model = create_model(run.cfg, run.data, 5, run.cfg["allow_modules"], run.objective)
    first = run.data.info.normalize(run.data.train.x[:16].permute(0, 3, 1, 2))
    assert model.to(run.device)(first).std().item() == pytest.approx(1.0, abs=1e-5)


def test_a_lazy_layer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"layer 1 is lazy.*init=default"):
        make("kaiming")(nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(2)))


def test_a_weight_that_is_computed_is_refused_by_name() -> None:
    """The next forward pass would overwrite what an initialisation writes into such a weight."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match=r"layer 0, which is computed from others"):
        make("orthogonal")(model)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this model has none.*init=default"):
        make("xavier")(nn.Sequential(nn.BatchNorm2d(3)))


REFUSED = {
    "init=xavier init.distribution=gauss": r"init\.distribution=gauss is not an option. Allowed: uniform \| normal",
    "init=xavier init.gain=0": r"init\.gain=0 is out of range",
    "init=kaiming init.mode=fan_avg": r"init\.mode=fan_avg is not an option",
    "init=kaiming init.negative_slope=0.1": r"init\.negative_slope=0\.1 has no effect.*leaky_relu",
    "init=orthogonal init.biases=none": r"init\.biases=none is not an option",
}


@pytest.mark.parametrize("override", REFUSED)
def test_wrong_settings_are_refused_with_their_key(override: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[override]):
        small(*override.split(" "))
