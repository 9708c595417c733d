"""Optimisers: the same weights as torch.optim or a slow reference, for every way of calling them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from conftest import EXACT
from torch import Tensor, nn

import mltricks
from mltricks import checkpoint
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.create import create
from mltricks.data.splits import DataSplits
from mltricks.engine import Traced
from mltricks.functional import foreach
from mltricks.functional_model import FunctionalModel
from mltricks.optim.adamw import AdamW
from mltricks.optim.coordinates import SETTINGS
from mltricks.optim.muon import newton_schulz, orthogonalized
from mltricks.optim.torch import find
from mltricks.stack.run import StackedStep, stack
from mltricks.state import leaves, map_state, reseed_step, step_seed
from mltricks.step import build_step
from mltricks.technique import bind, floats_of

STEPS = 12
Params = dict[str, Tensor]


class Net(nn.Module):
    """A convolution, a norm, a hidden layer and a head: every kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.conv2 = nn.Conv2d(
            8, 6, 3, bias=False
        )  # no bias, because a norm follows: the gradient of a bias would be rounding noise
        self.norm = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(24, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv2(self.conv(x).relu())).relu()
        return self.head(self.hidden(x.flatten(1)).relu())


@functools.cache
def defaults(option: str) -> dict[str, Any]:
    return dict(plain(mltricks.compose([f"optim={option}"]))["optim"])


def make(option: str, /, **changes: Any) -> Any:
    """The optimiser as its YAML configures it, with some values changed."""
    node = {name: value for name, value in defaults(option).items() if name not in SETTINGS}
    return create({**node, **changes}, "optim")


def model(channels_last: bool = False) -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    return net.to(memory_format=torch.channels_last) if channels_last else net


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 3, 6, 6, generator=generator), torch.randint(5, (8,), generator=generator))
        for _ in range(STEPS)
    ]


def gradients(net: nn.Module, params: Params, x: Tensor, y: Tensor) -> Params:
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    loss = nn.functional.cross_entropy(torch.func.functional_call(net, leaves, (x,)), y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def train_ours(optim: Any, way: str, channels_last: bool = False) -> Params:
    """Train on real gradients and return the weights; ``way`` says how the optimiser is called."""
    net = model(channels_last)
    params = {name: p.detach().clone() for name, p in net.named_parameters()}
    opt = optim.init(params)
    if way in ("tensors", "unrolled"):
        optim = bind(optim, {name: torch.tensor(value) for name, value in floats_of(optim).items()})
    for x, y in batches():
        grads = gradients(net, params, x, y)
        if way == "in place":
            params, opt = optim.update_in_place(grads, opt, params)
        elif way == "unrolled":
            with foreach.unrolled():
                params, opt = optim.update(grads, opt, params)
        else:
            params, opt = optim.update(grads, opt, params)
    return params


def train_torch(make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], channels_last: bool = False) -> Params:
    net = model(channels_last)
    optimizer = make_optimizer(net)
    for x, y in batches():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return {name: p.detach() for name, p in net.named_parameters()}


class SlowLion(torch.optim.Optimizer):
    """Algorithm 2 of arXiv:2302.06675, line by line."""

    def __init__(self, params: Any, lr: float, beta1: float, beta2: float, decay: float):
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for theta in group["params"]:
                g, m = theta.grad, self.state[theta].setdefault("m", torch.zeros_like(theta))
                c = group["beta1"] * m + (1 - group["beta1"]) * g
                theta.copy_(theta - group["lr"] * (torch.sign(c) + group["decay"] * theta))
                m.copy_(group["beta2"] * m + (1 - group["beta2"]) * g)


CASES: dict[str, tuple[Any, Callable[[nn.Module], torch.optim.Optimizer]]] = {
    "sgd": (
        lambda: make("sgd", lr=0.1, momentum=0.0, weight_decay=0.0),
        lambda net: torch.optim.SGD(net.parameters(), lr=0.1),
    ),
    "sgd momentum decay": (
        lambda: make("sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    "sgd nesterov": (
        lambda: make("sgd", lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
        lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    "adam": (
        lambda: make("adam", lr=1e-2, weight_decay=0.1),
        lambda net: torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=0.1),
    ),
    "adamw": (
        lambda: make("adamw", lr=1e-2, weight_decay=0.3),
        lambda net: torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.3),
    ),
    "adam beta1 0": (
        lambda: make("adam", lr=1e-2, beta1=0.0, beta2=0.9, eps=1e-4),
        lambda net: torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.0, 0.9), eps=1e-4),
    ),
    "lion": (
        lambda: make("lion", lr=1e-3, weight_decay=0.3),
        lambda net: SlowLion(net.parameters(), 1e-3, 0.9, 0.99, 0.3),
    ),
}


IN_A_RUN = {
    "sgd": ["optim.no_decay=[norm_and_bias]", "optim.weight_decay=0.01"],
    "adam": ["optim.lr=0.01"],
    "adamw": ["scheduler=onecycle", "optim.lr=0.02"],
    "lion": ["scheduler=cosine", "optim.lr=0.003"],
    "muon": ["optim.adam_params=[head]", "model.depth=2", "scheduler=cosine", "scheduler.warmup_frac=0.1"],
    "rmsprop": ["optim.momentum=0.5", "optim.centered=true", "scheduler=cosine"],
    "adagrad": ["optim.lr=0.03", "optim.lr_decay=1e-3", "optim.initial_accumulator=0.01"],
    "radam": ["optim.decoupled_decay=true", "optim.weight_decay=0.01", "optim.lr=0.03", "scheduler=cosine"],
    "nadam": ["optim.weight_decay=0.001", "scheduler=linear"],
    "lamb": ["optim.lr=0.05", "scheduler=linear"],
    "lars": ["optim.trust=0.02", "scheduler=cosine", "optim.groups={bias: {lr: x0.1}}"],
    "schedule_free": ["optim.lr=0.01", "scheduler.warmup_frac=0.1", "optim.weight_decay=0.01"],
    "schedule_free_sgd": ["optim.lr=0.3", "optim.groups={bias: {beta: 0.8}}"],
    "timm": ["optim.name=lamb", "optim.lr=0.03", "optim.groups={bias: {lr: x2}}"],
    "torch": ["optim.name=NAdam", "scheduler=linear", "optim.weight_decay={schedule: cosine, start: 0.1, end: 0}"],
}
"""Overrides with which an optimiser trains a small run."""


def assert_close(ours: Params, theirs: Params, rtol: float = 1e-4, atol: float = 3e-6) -> None:
    for name in theirs:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("way", ["pure", "in place", "tensors", "unrolled"])
@pytest.mark.parametrize("case", CASES)
def test_the_weights_equal_those_of_torch(case: str, way: str) -> None:
    ours, theirs = CASES[case]
    assert_close(train_ours(ours(), way), train_torch(theirs))


@pytest.mark.parametrize("way", ["pure", "in place"])
@pytest.mark.parametrize("case", ["sgd nesterov", "adamw", "lion"])
def test_the_weights_equal_those_of_torch_in_channels_last_order(case: str, way: str) -> None:
    ours, theirs = CASES[case]
    assert_close(train_ours(ours(), way, channels_last=True), train_torch(theirs, channels_last=True))


def random_gradients(params: Params, steps: int = STEPS) -> list[Params]:
    generator = torch.Generator().manual_seed(2)
    return [{name: torch.randn(p.shape, generator=generator) for name, p in params.items()} for _ in range(steps)]


@pytest.mark.parametrize("case", CASES)
def test_on_given_gradients_every_way_agrees_to_the_last_digits(case: str) -> None:
    ours, theirs = CASES[case]
    net = model()
    optimizer = theirs(net)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    results = {}
    for way in ("pure", "in place"):
        optim, params = ours(), {name: p.clone() for name, p in start.items()}
        opt = optim.init(params)
        for grads in random_gradients(start):
            params, opt = (optim.update if way == "pure" else optim.update_in_place)(grads, opt, params)
        results[way] = params
    for grads in random_gradients(start):
        for name, p in net.named_parameters():
            p.grad = grads[name]
        optimizer.step()
    theirs_now = {name: p.detach() for name, p in net.named_parameters()}
    for params in results.values():
        assert_close(params, theirs_now, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_update_takes_gradients_of_another_storage_order(name: str) -> None:
    """Autograd returns the weight gradients of a convolution in channels_last order."""
    optim = make(name, lr=0.1)
    start = {"w": torch.arange(24.0).reshape(2, 3, 2, 2)}
    g = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        params = map_state(torch.clone, start)
        opt = optim.init(params)
        for _ in range(2):
            params, opt = optim.update_in_place({"w": g.contiguous(memory_format=order)}, opt, params)
        results.append(params["w"])
    assert torch.equal(*results)


def test_fused_update_continues_from_slots_of_another_storage_order() -> None:
    """A checkpoint of a traced run holds its slots in the order of the gradients."""
    optim = make("sgd", lr=0.1)
    params = {"w": torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))}
    g = {
        "w": torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1)).contiguous(
            memory_format=torch.channels_last
        )
    }
    params, opt = optim.update(g, optim.init(params), params)
    assert opt["momentum"]["w"].stride() != params["w"].stride(), "otherwise this test proves nothing"
    pure, in_place = (params, opt), (map_state(torch.clone, params), map_state(torch.clone, opt))
    for _ in range(2):
        pure = optim.update(g, pure[1], pure[0])
        in_place = optim.update_in_place(g, in_place[1], in_place[0])
    torch.testing.assert_close(in_place[0], pure[0])


@pytest.mark.parametrize("name", IN_A_RUN)
def test_update_does_not_change_its_inputs(name: str) -> None:
    optim = make(name)
    net = model()
    params = {n: p.detach().clone() for n, p in net.named_parameters()}
    grads = gradients(net, params, *batches()[0])
    params, opt = optim.update(grads, optim.init(params), params)
    before = map_state(torch.clone, {"params": params, "opt": opt, "grads": grads})
    new, _ = optim.update(grads, opt, params)
    assert any(not torch.equal(new[n], params[n]) for n in params)
    for a, b in zip(leaves(before), leaves({"params": params, "opt": opt, "grads": grads}), strict=True):
        assert torch.equal(a, b)


def test_momentum_scheduled_from_zero_is_the_same_in_place() -> None:
    params = {"w": torch.tensor([1.0, 2.0])}
    grads = {"w": torch.tensor([1.0, -3.0])}
    results = []
    for way in ("update", "update_in_place"):
        optim, p = make("sgd", lr=0.1, momentum=0.0, weight_decay=0.1), map_state(torch.clone, params)
        opt = optim.init(p)
        for momentum in (0.0, 0.0, 0.5, 0.9):
            p, opt = getattr(bind(optim, {"momentum": momentum}), way)(grads, opt, p)
        results.append(p)
    torch.testing.assert_close(*results)


# Parameters without weight decay


NO_DECAY = {
    "norm_and_bias": lambda name, p: p.ndim <= 1,
    "*.bias": lambda name, p: name.endswith(".bias"),
    "conv*.weight": lambda name, p: name in ("conv.weight", "conv2.weight"),
    "head": lambda name, p: name == "head.weight",
    "first": lambda name, p: name == "conv.weight",
}


@pytest.mark.parametrize("way", ["pure", "in place", "tensors"])
@pytest.mark.parametrize("pattern", NO_DECAY)
def test_no_decay_equals_a_parameter_group_of_torch(pattern: str, way: str) -> None:
    def optimizer(net: nn.Module) -> torch.optim.Optimizer:
        spared = [p for name, p in net.named_parameters() if NO_DECAY[pattern](name, p)]
        decayed = [p for name, p in net.named_parameters() if not NO_DECAY[pattern](name, p)]
        groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.3)

    ours = train_ours(make("sgd", lr=0.1, momentum=0.9, weight_decay=0.3, no_decay=[pattern]), way)
    assert_close(ours, train_torch(optimizer))


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    params = dict(model().named_parameters())
    with pytest.raises(ValueError, match=r"optim\.no_decay has hed\.weight.*head\.weight"):
        make("sgd", no_decay=["hed.weight"]).init(params)
    with pytest.raises(ValueError, match=r"optim\.adam_params has hed\.\*"):
        make("muon", adam_params=["hed.*"]).init(params)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov=true has no effect"):
        make("sgd", nesterov=True, momentum=0.0)


# Muon


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 16, bias=False), nn.Tanh(), nn.Linear(16, 32, bias=False), nn.Tanh(), nn.Linear(32, 4, bias=False)
    )


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("way", ["update", "update_in_place"])
def test_muon_equals_torchs_on_matrices(way: str, nesterov: bool) -> None:
    optim = make("muon", lr=0.05, weight_decay=0.1, nesterov=nesterov, dtype="bf16", adam_params=[], momentum=0.9)
    net = two_layers()
    theirs = torch.optim.Muon(net.parameters(), lr=0.05, weight_decay=0.1, nesterov=nesterov, momentum=0.9)
    params = {name: p.detach().clone() for name, p in net.named_parameters()}
    opt = optim.init(params)
    for grads in random_gradients(params):
        params, opt = getattr(optim, way)(grads, opt, params)
        for name, p in net.named_parameters():
            p.grad = grads[name]
        theirs.step()
    for name, p in net.named_parameters():
        moved = (p.detach() - dict(two_layers().named_parameters())[name]).norm()
        assert (params[name] - p.detach()).norm() < 5e-3 * moved, (
            "bf16 keeps eight bits, and a batched product sums in another order"
        )


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_equals_torchs_rule_to_rounding_in_float64(nesterov: bool) -> None:
    """Torch's Muon rounds to bfloat16. The gradients are given here: in real training one rounding can change a run."""
    ours = make("muon", lr=0.02, weight_decay=0.1, nesterov=nesterov, dtype="fp32", adam_params=[], momentum=0.9)
    net = two_layers()
    theirs = torch.optim.Muon(net.parameters(), lr=0.02, weight_decay=0.1, nesterov=nesterov, momentum=0.9)
    params = {name: p.detach().clone() for name, p in net.named_parameters()}
    exact = {name: p.double() for name, p in params.items()}
    buffers = {name: torch.zeros_like(p) for name, p in exact.items()}
    opt = ours.init(params)
    for grads in random_gradients(params, 200):
        params, opt = ours.update(grads, opt, params)
        for name, p in net.named_parameters():
            p.grad, g = grads[name], grads[name].double()
            buffers[name] = 0.9 * buffers[name] + 0.1 * g
            direction = 0.1 * g + 0.9 * buffers[name] if nesterov else buffers[name]
            exact[name] = exact[name] * (1 - 0.02 * 0.1) - 0.02 * orthogonalized([direction], 5)[0]
        theirs.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(params[name].double(), exact[name], rtol=0, atol=1e-5)
        torch.testing.assert_close(opt["momentum"][name], theirs.state[p]["momentum_buffer"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["pure", "in place", "tensors", "unrolled"])
def test_muon_orthogonalises_hidden_weights_and_gives_the_rest_to_adamw(way: str) -> None:
    optim = make("muon", lr=0.02, adam_lr=3e-3, weight_decay=0.1, adam_params=["head"])
    ours = train_ours(optim, way)
    net = model()
    hidden = ["conv.weight", "conv2.weight", "hidden.weight"]
    rest = [p for name, p in net.named_parameters() if name not in hidden]
    adamw = torch.optim.AdamW(rest, lr=3e-3, betas=(optim.beta1, optim.beta2), eps=optim.eps, weight_decay=0.1)
    momenta = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for x, y in batches():
        net.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        adamw.step()
        with torch.no_grad():
            for name in hidden:
                p = net.get_parameter(name)
                momenta[name] = 0.95 * momenta[name] + 0.05 * p.grad
                direction = (0.05 * p.grad + 0.95 * momenta[name]).reshape(len(p), -1).double()
                p.mul_(1 - 0.02 * 0.1).sub_(0.02 * slow_muon(direction).reshape(p.shape).float())
    assert_close(ours, {name: p.detach() for name, p in net.named_parameters()}, rtol=1e-3, atol=2e-5)


def slow_muon(matrix: Tensor) -> Tensor:
    """Muon's map of the singular values, computed by a singular value decomposition."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (6, 8, 3, 3), (64, 3, 3, 3)])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (result,) = orthogonalized([g], 5)
    assert result.shape == g.shape
    rows, columns = g.flatten(1).shape
    before = torch.linalg.svdvals(g.flatten(1) / g.norm())
    after = torch.linalg.svdvals(result.flatten(1)) / max(1.0, rows / columns) ** 0.5
    kept = after[before > 0.01]
    assert kept.min() > 0.65
    assert after.max() < 1.25


def test_newton_schulz_keeps_singular_vectors_and_survives_zero() -> None:
    g = torch.randn(5, 9, generator=torch.Generator().manual_seed(3))
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    inner = u.T @ newton_schulz(g[None], 5)[0] @ v.T
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4
    assert torch.equal(newton_schulz(torch.zeros(1, 3, 4), 5), torch.zeros(1, 3, 4))


def test_matrices_of_one_shape_do_not_influence_each_other() -> None:
    g = [torch.randn(4, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    together = orthogonalized([*g, g[0].T.contiguous()], 5)
    for alone, one in zip(g, together, strict=False):
        torch.testing.assert_close(orthogonalized([alone], 5)[0], one, rtol=1e-5, atol=1e-5)


def test_muon_keeps_a_second_slot_only_for_parameters_of_adamw() -> None:
    opt = make("muon").init({name: p.detach() for name, p in model().named_parameters()})
    assert set(opt["momentum"]) == {"conv.weight", "conv2.weight", "hidden.weight"}
    assert set(opt["square"]) == {"conv.bias", "norm.weight", "norm.bias", "hidden.bias", "head.weight", "head.bias"}


def test_muon_without_a_hidden_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matrix: optim\.adam_params=embedding\+head .*optim\.adam_params=none"):
        build_small("model=mlp", "model.depth=0", "optim=muon")


# optim=torch: any optimiser of torch


TORCH_ARGUMENTS: dict[str, dict[str, Any]] = {
    "RMSprop": {"alpha": 0.9, "momentum": 0.5, "centered": True},
    "Adagrad": {"initial_accumulator_value": 0.1},
    "Adadelta": {},
    "NAdam": {"decoupled_weight_decay": True},
    "RAdam": {},
    "ASGD": {"t0": 3.0},
    "Rprop": {},
    "Adamax": {},
    "SGD": {"momentum": 0.9, "dampening": 0.5},
    "AdamW": {"amsgrad": True, "fused": False},
    "Adafactor": {},
}


@pytest.mark.parametrize("way", ["pure", "in place"])
@pytest.mark.parametrize("name", TORCH_ARGUMENTS)
def test_any_optimiser_of_torch_bit_for_bit(name: str, way: str) -> None:
    arguments = TORCH_ARGUMENTS[name]
    ours = train_ours(make("torch", name=name, lr=2e-3, arguments=arguments), way)
    theirs = train_torch(lambda net: find(name)(net.parameters(), lr=2e-3, **arguments))
    for parameter, value in theirs.items():
        assert torch.equal(ours[parameter], value)


def test_optim_torch_supports_no_decay_and_schedules() -> None:
    def optimizer(net: nn.Module) -> torch.optim.Optimizer:
        biases = [p for p in net.parameters() if p.ndim <= 1]
        weights = [p for p in net.parameters() if p.ndim > 1]
        return torch.optim.NAdam(
            [{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=1.0, weight_decay=1.0
        )

    optim = make("torch", name="NAdam", lr=1e-2, weight_decay=0.0, no_decay=["norm_and_bias"])
    ours_net, theirs_net = model(), model()
    theirs = optimizer(theirs_net)
    params = {name: p.detach().clone() for name, p in ours_net.named_parameters()}
    opt = optim.init(params)
    for i, (x, y) in enumerate(batches()):
        lr, decay = 1e-2 / (i + 1), 0.1 * i
        params, opt = bind(optim, {"lr": lr, "weight_decay": decay}).update_in_place(
            gradients(ours_net, params, x, y), opt, params
        )
        theirs.param_groups[0].update(lr=lr, weight_decay=decay)
        theirs.param_groups[1].update(lr=lr)
        theirs.zero_grad()
        nn.functional.cross_entropy(theirs_net(x), y).backward()
        theirs.step()
    for name, p in theirs_net.named_parameters():
        assert torch.equal(params[name], p.detach())


def test_the_state_of_optim_torch_has_its_final_shape_from_the_start() -> None:
    params = {name: p.detach() for name, p in model().named_parameters()}
    for name, arguments in TORCH_ARGUMENTS.items():
        optim = make("torch", name=name, arguments=arguments)
        opt = optim.init(params)
        _, after = optim.update(random_gradients(params, 1)[0], opt, params)
        assert [(t.shape, t.dtype) for t in leaves(opt)] == [(t.shape, t.dtype) for t in leaves(after)], name


REFUSED = {
    "optim.name=RMSprob": r"optim\.name=RMSprob is no optimiser of torch\.optim.*RMSprop",
    "optim.name=LBFGS": "LBFGS cannot be used: it evaluates the loss several times",
    "optim.name=Optimizer": "is no optimiser",
    "optim.arguments={alfa: 0.9}": r"optim\.arguments has alfa.*Did you mean alpha",
    "optim.arguments={lr: 0.9}": r"Type optim\.lr=VALUE",
    "optim.arguments={alpha: -1}": "Invalid alpha value",
    "optim.name=Muon": "Muon refuses .*only supports 2D",
    "optim.lr={schedule: cosine, start: 1, end: -1}": r"optim\.lr\.end=-1",
    "engine=traced": r"engine=traced traces the step.*optim=torch.*engine=eager",
    "scheduler=onecycle": r"optim=torch has none.*cycle_momentum=false",
}


@pytest.mark.parametrize("override", REFUSED)
def test_optim_torch_refuses_with_the_reason(override: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[override]):
        build_small("optim=torch", override)


def test_optim_torch_refuses_a_decay_that_the_class_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"Rprop has no weight decay.*optim\.weight_decay=null"):
        build_small("optim=torch", "optim.name=Rprop", "optim.weight_decay=0.1")


def test_optim_torch_cannot_be_stacked() -> None:
    optim = make("torch")
    params = {"w": torch.ones(2)}
    with pytest.raises(ValueError, match="neither traced nor stacked"):
        bind(optim, {"lr": torch.tensor(0.1)}).update(params, optim.init(params), params)


# Whole runs


SMALL = ["data.limit=320", "batch_size=16", "epochs=4", "model=mlp", "model.width=32", *EXACT]


def build_small(*overrides: str) -> Run:
    return build(plain(mltricks.compose([*SMALL, *overrides])))


def advance(run: Run, steps: int, start: int = 0) -> list[float]:
    losses = []
    for i, batch in zip(range(start, start + steps), run.source.stream(start), strict=False):
        reseed_step(run.cfg["seed"], i)
        run.state, metrics = run.step(run.state, batch, run.hypers.at(i))
        losses.append(float(metrics["loss"]))
    return losses


@pytest.mark.parametrize("name", IN_A_RUN)
def test_a_run_learns_and_resumes_bit_for_bit(name: str, tmp_path: Any) -> None:
    overrides = [f"optim={name}", *IN_A_RUN[name]]
    whole, first, second = (build_small(*overrides) for _ in range(3))
    losses = advance(whole, 40)
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])
    advance(first, 23)
    checkpoint.save(tmp_path / "last.pt", first.state, first.cfg)
    second.state = checkpoint.restore(
        checkpoint.load(tmp_path / "last.pt")["state"], second.state, tmp_path / "last.pt"
    )
    advance(second, 17, start=23)
    for a, b in zip(leaves(whole.state), leaves(second.state), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [n for n in IN_A_RUN if n not in ("torch", "timm")])
def test_traced_equals_eager(name: str) -> None:
    overrides = [f"optim={name}", *IN_A_RUN[name]]
    eager, traced = build_small(*overrides), build_small(*overrides, "engine=traced")
    assert isinstance(traced.engine, Traced)
    assert advance(eager, 8) == pytest.approx(advance(traced, 8), rel=2e-4)


@pytest.mark.parametrize("name", [n for n in IN_A_RUN if n not in ("adam", "torch", "timm")])
def test_a_row_of_a_stack_equals_the_run_alone(name: str) -> None:
    lr = make(name).lr
    overrides = [
        [f"optim={name}", *IN_A_RUN[name], f"seed={seed}", f"optim.lr={lr * (seed + 1)}", "engine=traced"]
        for seed in (0, 1)
    ]
    members, alone = [build_small(*o) for o in overrides], [build_small(*o) for o in overrides]
    first = members[0]
    info: Any = first.data.info
    assert isinstance(first.data, DataSplits)
    assert isinstance(first.model, FunctionalModel)
    step = build_step(first.model, first.objective, first.techniques, first.optim, info.normalize, info.num_outputs)
    stacked, state = StackedStep(step, 2), stack([m.state for m in members])
    streams = [m.source.stream(0) for m in members]
    for i in range(5):
        batch, hyper = stack([next(s) for s in streams]), stack([m.hypers.at(i) for m in members])
        state, _ = stacked(state, batch, hyper, [step_seed(m.cfg["seed"], i) for m in members])
    for k, run in enumerate(alone):
        advance(run, 5)
        for name_, p in run.state["params"].items():
            torch.testing.assert_close(state["params"][name_][k], p, rtol=1e-4, atol=2e-5)


def test_the_scheduler_drives_both_learning_rates_of_muon() -> None:
    run = build_small("optim=muon", "scheduler=linear", "optim.lr=0.02", "optim.adam_lr=0.004")
    values = run.hypers.values(run.total_steps // 2)
    assert values["optim", "lr"] == pytest.approx(0.01)
    assert values["optim", "adam_lr"] == pytest.approx(0.002)


@pytest.mark.parametrize("unrolled", [False, True])
def test_list_arithmetic_takes_numbers_and_tensors(unrolled: bool) -> None:
    xs, ys = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])], [torch.tensor([5.0, 7.0]), torch.tensor([[-1.0]])]

    def same(result: list[Tensor], formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        for r, x, y in zip(result, xs, ys, strict=True):
            torch.testing.assert_close(r, formula(x, y))

    def check() -> None:
        for a in (0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64)):
            same(foreach.axpy(a, xs, ys), lambda x, y: 0.25 * x + y)
            same(foreach.lerp(xs, ys, a), lambda x, y: 0.75 * x + 0.25 * y)
            same(foreach.mul(xs, a), lambda x, y: 0.25 * x)
            same(foreach.shift(xs, a), lambda x, y: x + 0.25)
        same(foreach.mul(xs, ys), lambda x, y: x * y)
        same(foreach.add(xs, ys), lambda x, y: x + y)
        same(foreach.sub(xs, ys), lambda x, y: x - y)
        same(foreach.div(xs, ys), lambda x, y: x / y)
        same(foreach.sqrt(xs), lambda x, y: x.sqrt())
        same(foreach.sign(ys), lambda x, y: y.sign())
        assert float(foreach.global_norm(xs)) == pytest.approx(14**0.5)

    if unrolled:
        with foreach.unrolled():
            check()
    else:
        check()


@pytest.mark.parametrize("way", ["pure", "unrolled"])
def test_a_square_that_overflows_gives_no_nan(way: str) -> None:
    """A gradient of 1e20: its square overflows float32, but its square times (1 - beta2) must not give a nan."""
    optim = AdamW(lr=0.1, weight_decay=0.0, no_decay=[], groups=None, beta1=0.9, beta2=0.99, eps=1e-8)
    params = {"w": torch.zeros(3)}
    opt = optim.init(params)
    with foreach.unrolled() if way == "unrolled" else nullcontext():
        for g in (1.0, 1e20, 1.0, 1.0):
            params, opt = optim.update({"w": torch.full((3,), g)}, opt, params)
    assert params["w"].isfinite().all()
    assert opt["square"]["w"].isfinite().all()
