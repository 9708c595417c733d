"""Layer-wise learning rates compared with torch's parameter groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import images, sgd, small_net, train
from contract import make
from torch import nn

from mltricks.optim.adamw import AdamW
from mltricks.technique import Aux, Ctx, Own, Params, Technique
from mltricks.techniques.ema import Ema
from mltricks.techniques.layerwise_lr import LayerwiseLr, depths

DEPTH = {"0.weight": 2, "0.bias": 2, "1.weight": 2, "1.bias": 2, "4.weight": 1, "4.bias": 1, "6.weight": 0, "6.bias": 0}


def adamw(lr: float) -> AdamW:
    return AdamW(lr=lr, weight_decay=0.3, no_decay=[], groups=None, beta1=0.9, beta2=0.99, eps=1e-6)


REFERENCES: dict[str, tuple[Any, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": (sgd(0.1, 0.9, 0.01), lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)),
    "adamw": (adamw(0.01), lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.3)),
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_weights_equal_those_of_parameter_groups(name: str) -> None:
    ours, torchs = REFERENCES[name]
    batches = [images(16, seed) for seed in range(6)]
    for batch in batches:
        batch["x"] = batch["x"].double()
    state, _ = train(small_net(norm=True).double(), batches, ours, layerwise_lr=LayerwiseLr(decay=0.5))[-1]
    module = small_net(norm=True).double()
    optimizer = torchs([{"params": [p], "lr": ours.lr * 0.5 ** DEPTH[n]} for n, p in module.named_parameters()])
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(module(batch["x"]), batch["y"]).backward()
        optimizer.step()
    for name, p in module.named_parameters():
        torch.testing.assert_close(state["params"][name], p.detach(), rtol=1e-6, atol=1e-8)


def test_layers_of_known_architectures() -> None:
    from torchvision.models import resnet18, vit_b_16

    with torch.device("meta"):
        resnet, vit = resnet18(), vit_b_16()
    found = depths(dict(resnet.named_parameters()))
    assert found["conv1.weight"] == found["bn1.bias"] == 9
    assert found["layer1.0.conv1.weight"] == found["layer1.0.bn2.weight"] == 8
    assert found["layer4.1.conv2.weight"] == 1
    assert found["fc.bias"] == 0
    found = depths(dict(vit.named_parameters()))
    blocks = [found[f"encoder.layers.encoder_layer_{i}.mlp.0.weight"] for i in range(12)]
    assert blocks == list(range(12, 0, -1))
    assert found["encoder.layers.encoder_layer_3.ln_1.weight"] == found["encoder.layers.encoder_layer_3.mlp.3.bias"]


def test_parameters_added_by_techniques_learn_at_the_full_rate() -> None:
    params = {
        "features.0.weight": torch.zeros(2, 2),
        "head.weight": torch.zeros(2, 2),
        "simclr/0.weight": torch.zeros(2, 2),
    }
    assert depths(params) == {"features.0.weight": 1, "head.weight": 0, "simclr/0.weight": 0}


def test_a_single_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="layerwise_lr has no effect"):
        make("technique=layerwise_lr", "model=mlp", "model.depth=0")


def test_depth_follows_the_modules_of_the_default_model() -> None:
    run = make("technique=layerwise_lr")
    kept = {name: float(depth) for name, depth in run.state["own"]["layerwise_lr"].items()}
    assert kept == {"features.0.weight": 2.0, "features.0.bias": 2.0, "features.3.weight": 1.0, "features.3.bias": 1.0}
    assert isinstance(run.model.module, nn.Module)


@dataclass(frozen=True)
class Mask(Technique):
    """Sets the first layer to zero after every update, as a weight-pruning mask does."""

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        return {**params, "0.weight": torch.zeros_like(params["0.weight"])}, ctx.own


@pytest.mark.parametrize("order", list(itertools.permutations(["ema", "mask", "layerwise_lr"])))
def test_averages_use_the_final_weights_of_a_step_in_any_order(order: Sequence[str]) -> None:
    known = {"ema": Ema(decay=0.0, warmup=False), "mask": Mask(), "layerwise_lr": LayerwiseLr(decay=0.5)}
    for state, _ in train(small_net(), [images(16, s) for s in (0, 1)], sgd(0.5), **{n: known[n] for n in order}):
        assert not state["params"]["0.weight"].any(), "scaling the update does not undo the mask"
        for name, p in state["params"].items():
            assert torch.equal(state["own"]["ema"]["params"][name], p)
