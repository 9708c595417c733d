"""L1, L2 and elastic-net penalties compared with closed forms, torch's weight decay and scikit-learn's solution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, sgd, small_net, train
from contract import advance, assert_same, make
from torch import Tensor, nn

from mltricks.functional.penalty import weight_names
from mltricks.objectives.classify import Classify
from mltricks.objectives.regress import Regress
from mltricks.step import gradient
from mltricks.technique import Technique
from mltricks.techniques.elastic_net import ElasticNet
from mltricks.techniques.l1 import L1
from mltricks.techniques.l2 import L2

CONV, LINEAR = 0.03, 0.2
PENALTIES: dict[str, tuple[Technique, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "l1": (L1(conv=CONV, linear=LINEAR), lambda w: w.abs().sum(), torch.sign),
    "l2": (L2(conv=CONV, linear=LINEAR), lambda w: w.square().sum() / 2, lambda w: w),
    "elastic_net": (
        ElasticNet(conv=CONV, linear=LINEAR, l1_ratio=0.25),
        lambda w: 0.25 * w.abs().sum() + 0.375 * w.square().sum(),
        lambda w: 0.25 * w.sign() + 0.75 * w,
    ),
}


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_gradient_and_metrics_have_the_closed_form(name: str) -> None:
    technique, size, slope = PENALTIES[name]
    module, batch = small_net(norm=True), images(8)
    params = params_of(module)
    params["4.weight"][0, :3] = 0.0  # here the absolute value has no derivative
    plain, plain_aux = gradient(Classify())(params, batch, context(module))
    grads, aux = gradient(technique.loss(Classify()))(params, batch, context(module))
    strengths = {"0.weight": CONV, "4.weight": LINEAR, "6.weight": LINEAR}
    for key, p in params.items():
        torch.testing.assert_close(grads[key] - plain[key], strengths.get(key, 0.0) * slope(p), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(aux["metrics"]["penalty"], sum(s * size(params[k]) for k, s in strengths.items()))
    assert torch.equal(aux["metrics"]["loss"], plain_aux["metrics"]["loss"])


def test_l2_equals_the_weight_decay_of_torchs_sgd() -> None:
    batches = [images(16, seed) for seed in range(5)]
    state, _ = train(small_net(), batches, sgd(0.1, momentum=0.9), l2=L2(conv=CONV, linear=LINEAR))[-1]
    module = small_net()
    decay = {"0.weight": CONV, "3.weight": LINEAR, "5.weight": LINEAR}
    groups = [{"params": [p], "weight_decay": decay.get(name, 0.0)} for name, p in module.named_parameters()]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(module(batch["x"]), batch["y"]).backward()
        optimizer.step()
    for name, p in module.named_parameters():
        torch.testing.assert_close(state["params"][name], p.detach(), rtol=1e-5, atol=1e-6)


def test_scikit_learns_elastic_net_is_a_minimum() -> None:
    from sklearn.linear_model import ElasticNet as Reference

    torch.manual_seed(0)
    x = torch.randn(60, 12, dtype=torch.float64)
    y = x[:, :3] @ torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64) + 0.1 * torch.randn(60, dtype=torch.float64)
    alpha, l1_ratio = 0.3, 0.6
    solved = Reference(alpha=alpha, l1_ratio=l1_ratio, fit_intercept=False, tol=1e-12, max_iter=100000).fit(x, y)
    module = nn.Linear(12, 1, bias=False).double()
    weight = torch.from_numpy(solved.coef_).view(1, -1)
    # scikit-learn halves the mean square and this objective does not, so the strength here is twice as large
    net = ElasticNet(conv=0.0, linear=2 * alpha, l1_ratio=l1_ratio)
    grads, _ = gradient(net.loss(Regress()))({"weight": weight}, {"x": x, "y": y}, context(module))
    zero = weight == 0
    assert 0 < int(zero.sum()) < 12
    torch.testing.assert_close(grads["weight"][~zero], torch.zeros_like(grads["weight"][~zero]), rtol=0, atol=1e-6)
    assert bool((grads["weight"][zero].abs() <= 2 * alpha * l1_ratio).all())


def test_two_penalties_add_up() -> None:
    module, batch = small_net(), images(8)
    one, two = L1(conv=CONV, linear=LINEAR), L2(conv=CONV, linear=LINEAR)
    parts = [t.loss(Classify())(params_of(module), batch, context(module))[1]["metrics"]["penalty"] for t in (one, two)]
    value, aux = one.loss(two.loss(Classify()))(params_of(module), batch, context(module))
    torch.testing.assert_close(aux["metrics"]["penalty"], parts[0] + parts[1])
    torch.testing.assert_close(value, aux["metrics"]["loss"] + aux["metrics"]["penalty"])


class Mixed(nn.Module):
    """One layer of every kind that has two-dimensional weights, with a tied output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 8))
        self.embedding = nn.Embedding(10, 8)
        self.conv = nn.Conv1d(8, 8, 3)
        self.rnn = nn.LSTM(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm((4, 8))
        self.head = nn.Linear(8, 10)
        self.head.weight = self.embedding.weight


def test_which_weights_are_penalised() -> None:
    conv, linear = weight_names(Mixed())
    assert conv == ["conv.weight"]
    assert set(linear) == {
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "head.weight",
    }


def test_a_tied_weight_counts_once() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    batch = {"x": torch.randn(5, 3), "y": torch.randint(3, (5,))}
    _, aux = L1(conv=0.0, linear=2.0).loss(Classify())(params_of(module), batch, context(module))
    torch.testing.assert_close(aux["metrics"]["penalty"], 2 * module[0].weight.abs().sum().detach())


def test_a_model_without_such_weights_is_refused() -> None:
    for name, (technique, _, _) in PENALTIES.items():
        with pytest.raises(ValueError, match=f"technique={name} has no effect"):
            technique.setup(nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm(3)), {}, {}, 0)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_a_regulariser_of_strength_zero_changes_nothing(name: str) -> None:
    off = make(f"regularizer={name}", f"technique.{name}.conv=0.0", f"technique.{name}.linear=0.0")
    baseline = make()
    assert advance(off, 5) == advance(baseline, 5)
    assert_same(off.state["params"], baseline.state["params"])
