"""Activation checkpointing: the same bits, less memory, and refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from bare import context, images, params_of, small_net
from contract import advance, assert_same, make
from torch import Tensor, nn

from mltricks.functional.recompute import recompute
from mltricks.objectives.classify import Classify
from mltricks.state import leaves
from mltricks.step import gradient
from mltricks.techniques.checkpointing import blocks

RESNET = ["model=resnet9", "model.pool=mean"]


@pytest.mark.parametrize(
    "others",
    [
        ["technique=[]", "precision=fp32"],
        ["technique=[dropout,sam]", "precision=bf16"],
        ["technique=[dropblock,r_drop,dropout,dropconnect]", "technique.dropblock.grow=false"],
        ["technique=[accumulate,stochastic_depth,ema]"],
        ["model=lstm", "model.dropout=0.3", "technique=[]", "technique.checkpointing.layers=[recurrent]"],
    ],
    ids=["alone", "half precision", "random", "micro-batches", "recurrent"],
)
def test_a_run_is_the_same_bit_for_bit(others: list[str]) -> None:
    """Parameters, the statistics of batch norm, random draws: all of the state after some updates."""
    model = [] if "model=lstm" in others else RESNET
    plain = [o for o in others if "checkpointing" not in o]
    names = next(o for o in others if o.startswith("technique=")).removeprefix("technique=")[1:-1]
    listed = f"technique=[{','.join(filter(None, [names, 'checkpointing']))}]"
    own = [listed if o.startswith("technique=") else o for o in others]
    once, again = make(*model, *plain), make(*model, *own)
    assert advance(once, 3) == advance(again, 3)
    for key in ("params", "buffers", "opt"):
        assert_same(once.state[key], again.state[key])


def saved_bytes(overrides: list[str]) -> int:
    """The memory that the forward pass of a batch leaves for the backward pass, without the parameters."""
    run = make(*overrides)
    batch = next(run.source.stream(0))
    params = {name: p.detach().requires_grad_() for name, p in run.state["params"].items()}
    mine = {p.untyped_storage().data_ptr() for p in leaves(params)}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in mine:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output, _, _ = run.model(params, dict(run.state["buffers"]), run.data.info.normalize(batch["x"]), True)
    del output
    return sum(found.values())


def test_a_resnet_keeps_a_third_of_the_memory() -> None:
    shared = [*RESNET, "model.width=8", "batch_size=64"]
    assert saved_bytes([*shared, "technique=checkpointing"]) < saved_bytes(shared) / 3


class Power(nn.Module):
    """A layer whose buffer decides on its output, and changes in place at every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.scale.mul_(1.5)
        return (x * self.weight * self.scale).tanh().sin()


def test_the_second_pass_starts_from_the_buffers_of_the_first() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Sequential(Power(), Power()))
    other = copy.deepcopy(module)
    recompute(other[2], type(other[2]).forward)
    found = []
    for net in (module, other):
        ctx, params = context(net), params_of(net)
        found.append((gradient(Classify())(params, images(6), ctx)[0], ctx.buffers))
    assert_same({"grads": found[0][0], "buffers": found[0][1]}, {"grads": found[1][0], "buffers": found[1][1]})
    assert float(found[1][1]["2.0.scale"]) == 1.5


def test_a_mode_that_changes_before_the_backward_pass_does_not_matter() -> None:
    module, x = small_net(norm=True), images(6)["x"]
    recompute(module, type(module).forward)
    expected = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    loss = module(x).square().sum()
    module.eval()
    torch.testing.assert_close(torch.autograd.grad(loss, list(module.parameters())), expected, rtol=0, atol=0)
    assert not module.training


def test_a_copy_of_a_model_computes_with_its_own_parameters() -> None:
    module, x = small_net(), images(6)["x"]
    recompute(module, type(module).forward)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[5].bias += 1
    torch.testing.assert_close(other(x), module(x) + 1)
    other(x).sum().backward()
    assert module[5].bias.grad is None
    assert other[5].bias.grad is not None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=mlp"], "saves memory in models of several blocks, and MLP has 1"),
        ([*RESNET, "technique.checkpointing.layers=[x]"], "no layer is called x"),
        ([*RESNET, "technique.checkpointing.layers=[layer1,layer1.0]"], "layer1.0 is a part of layer1"),
        ([*RESNET, "engine=traced"], "technique=checkpointing cannot be part of. Type engine=eager"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        make("technique=checkpointing", *overrides)


@pytest.mark.parametrize(
    ("make_model", "some"),
    [
        ("resnet18", ["layer1.0", "layer4.1"]),
        ("vit_b_16", ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_11"]),
    ],
)
def test_blocks_of_torchvisions_models(make_model: str, some: list[str]) -> None:
    import torchvision

    with torch.device("meta"):
        model: Any = getattr(torchvision.models, make_model)()
    assert set(some) <= blocks(model).keys()


def test_trials_with_it_are_not_stacked() -> None:
    from mltricks.launch.probe import fusable

    cfgs = [make(*RESNET, "technique=checkpointing", f"optim.lr={lr}").cfg for lr in (0.01, 0.02)]
    assert fusable(cfgs) == "technique=checkpointing cannot be traced"
