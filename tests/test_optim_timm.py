"""Optimisers of timm by name: those of its own factory bit for bit, also after a resume."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from test_optim import build_small, make, model, random_gradients

from mltricks.optim.timm import names
from mltricks.state import leaves, map_state

timm_optim = pytest.importorskip("timm.optim")

STATES = ["adan", "lamb", "laprop", "nadamlegacy", "muon", "adafactor", "sgd", "madgrad", "mars"]
"""Their states hold tensors, integers, floats and flags, of parameters and of whole groups."""


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_it_equals_the_one_that_timms_factory_makes(name: str, resumed: bool) -> None:
    net = model()
    params = {key: p.detach().clone() for key, p in net.named_parameters()}
    optim = make("timm", name=name, lr=1e-3, weight_decay=0.1)
    theirs = timm_optim.create_optimizer_v2([{"params": list(net.parameters())}], opt=name, lr=1e-3, weight_decay=0.1)
    opt = optim.init(params)
    shapes = [(t.shape, t.dtype) for t in leaves(opt)]
    for i, grads in enumerate(random_gradients(params, 6)):
        if resumed and i == 3:
            optim = make("timm", name=name, lr=1e-3, weight_decay=0.1)
            optim.init(params)
            params, opt = map_state(torch.clone, params), map_state(torch.clone, opt)
        params, opt = optim.update_in_place(map_state(torch.clone, grads), opt, params)
        for key, p in net.named_parameters():
            p.grad = grads[key].clone()
        theirs.step()
    assert [(t.shape, t.dtype) for t in leaves(opt)] == shapes
    for key, p in net.named_parameters():
        assert torch.equal(params[key], p.detach()), key


REFUSED = {
    "adann": r"optim\.name=adann is no optimiser of timm\. Did you mean .*adan",
    "adahessian": "adahessian cannot be used: it needs second derivatives",
    "bnbadam": "needs the package bitsandbytes and CUDA",
    "kron": "kron cannot be used: it keeps lists",
    "lookahead_adam": "is no optimiser of timm",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]):
        make("timm", name=name)


def test_the_names_are_those_that_can_be_used() -> None:
    assert {"adan", "adamp", "lamb", "rmsproptf"} <= set(names())
    assert not {"adahessian", "kron", "fusedlamb"} & set(names())


def test_without_timm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(ValueError, match=r"optim=timm needs the package timm\. Type: pip install timm"):
        make("timm")


def test_engines_that_trace_are_refused() -> None:
    with pytest.raises(ValueError, match=r"engine=traced traces the step, and optim=timm .*engine=eager"):
        build_small("optim=timm", "engine=traced")
    optim: Any = make("timm")
    assert not optim.traceable
