"""Dropout: its arithmetic, the layers it is applied to, and that a schedule drives its rate."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, small_net
from contract import advance, make
from torch import nn

from mltricks.techniques.dropout import Dropout, drop


def test_dropout_equals_masking_the_input() -> None:
    module, x = small_net(), images(6)["x"]
    hidden = module[:5](x)
    Dropout(p=0.25, layers=None).setup(module, params_of(module), {"x": x}, 0)
    torch.manual_seed(3)
    output = context(module).apply(params_of(module), x)
    torch.manual_seed(3)
    mask = torch.rand(hidden.shape) < 0.75
    torch.testing.assert_close(output, F.linear(hidden * mask / 0.75, module[5].weight, module[5].bias))


def test_it_is_off_when_the_model_predicts() -> None:
    module, x = small_net(), images(6)["x"]
    expected = module(x)
    Dropout(p=0.9, layers=["*"]).setup(module, params_of(module), {"x": x}, 0)
    torch.testing.assert_close(context(module).apply(params_of(module), x, train=False), expected)


def test_share_of_zeros_and_mean_equal_those_of_torchs_dropout() -> None:
    torch.manual_seed(0)
    x = torch.ones(200, 500)
    ours, torchs = drop(x, torch.tensor(0.3)), F.dropout(x, 0.3)
    assert set(ours.unique().tolist()) == set(torchs.unique().tolist())
    spread = 4 * math.sqrt(0.3 / 0.7 / x.numel())
    assert abs(float(ours.mean()) - 1) < spread


def test_rate_zero_changes_nothing_bit_for_bit() -> None:
    x = torch.randn(1000)
    assert torch.equal(drop(x, torch.tensor(0.0)), x)


def test_patterns_select_layers_and_a_wrong_one_is_refused_with_their_names() -> None:
    run = make("technique=dropout", "technique.dropout.layers=[features.3,head]")
    assert {n for n in run.state["buffers"] if n.endswith("dropout_p")} == {"features.3.dropout_p", "head.dropout_p"}
    with pytest.raises(ValueError, match=r"layers=head\+hed: no layer is called hed.*features\.0, features\.3, head"):
        make("technique=dropout", "technique.dropout.layers=head+hed")
    with pytest.raises(ValueError, match="the model has none"):
        Dropout(p=0.5, layers=None).setup(nn.Sequential(nn.Conv2d(1, 1, 1)), {}, images(2), 0)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(1, 2)
        return self.head(self.attention(rows, rows, rows)[0].mean(1))


def test_layers_that_the_model_does_not_call_are_not_taken() -> None:
    module, batch = Attends(), images(2)
    Dropout(p=0.5, layers=None).setup(module, params_of(module), batch, 0)
    assert [name for name, _ in module.named_buffers()] == ["head.dropout_p"]
    with pytest.raises(ValueError, match=r"no layer is called attention.*convolutions: head\."):
        Dropout(p=0.5, layers=["attention.*"]).setup(module, params_of(module), batch, 0)


def test_a_schedule_drives_the_rate_under_every_engine() -> None:
    for engine in ("eager", "traced"):
        schedule = "technique.dropout.p={schedule: cosine, start: 0.0, end: 0.6}"
        run = make("regularizer=dropout", schedule, f"engine={engine}", "max_steps=10")
        for step in (0, 5, 9):
            advance(run, 1, start=step)
            expected = run.hypers.values(step)["dropout", "p"]
            assert float(run.state["buffers"]["head.dropout_p"]) == pytest.approx(expected)
        assert 0.5 < expected < 0.6


def test_a_copy_of_the_model_has_its_own_rate() -> None:
    module, x = small_net(), images(6)["x"]
    Dropout(p=0.5, layers=None).setup(module, params_of(module), {"x": x}, 0)
    other = copy.deepcopy(module)
    module[5].dropout_p.fill_(0.0)
    other.train()
    torch.manual_seed(0)
    first, second = other(x), other(x)
    assert not torch.equal(first, second)
    module.train()
    assert torch.equal(module(x), module(x))
