"""DropConnect and weight drop: the weights that the model sees, their mean, and which layers they are of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, small_net
from contract import make
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional.drop import drop
from mltricks.objectives.classify import Classify
from mltricks.step import gradient
from mltricks.technique import Aux, Ctx, Params
from mltricks.techniques.dropconnect import Dropconnect, dropped_names


def test_the_model_sees_weights_with_the_same_mask_as_dropout_on_them() -> None:
    """Masks drawn by hand from the same seed, and torch's own forward pass with the masked weights."""
    module, batch = small_net(), images(8)
    technique, params = Dropconnect(p=0.4, layers=None, biases=True), params_of(small_net())
    torch.manual_seed(3)
    grads, aux = gradient(technique.loss(Classify()))(params, batch, context(module))
    torch.manual_seed(3)
    names = ["3.weight", "3.bias", "5.weight", "5.bias"]
    masks = {name: (torch.rand(params[name].shape) < 0.6) / 0.6 for name in names}
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    seen = {name: p * masks.get(name, 1.0) for name, p in leaves.items()}
    h = F.relu(F.conv2d(batch["x"], seen["0.weight"], seen["0.bias"])).flatten(1)
    logits = F.linear(F.relu(F.linear(h, seen["3.weight"], seen["3.bias"])), seen["5.weight"], seen["5.bias"])
    loss = F.cross_entropy(logits, batch["y"])
    loss.backward()
    torch.testing.assert_close(aux["metrics"]["loss"], loss.detach())
    for name, leaf in leaves.items():
        torch.testing.assert_close(grads[name], leaf.grad, rtol=1e-5, atol=1e-7)
    assert float((grads["3.weight"] == 0).float().mean()) > 0.3


def test_the_mean_output_over_masks_is_the_clean_one() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, 30), torch.randn(4, 30)
    outputs = torch.stack([F.linear(x, drop(weight, 0.5)) for _ in range(2000)])
    spread = outputs.std(0) / 2000**0.5
    assert float(((outputs.mean(0) - F.linear(x, weight)) / spread).abs().max()) < 4.5


def test_patterns_biases_and_refusals() -> None:
    module = small_net()
    assert dropped_names(module, ["5", "0"], biases=False) == ["0.weight", "5.weight"]
    assert dropped_names(nn.Linear(2, 2), None, biases=True) == ["weight", "bias"]
    with pytest.raises(ValueError, match=r"no layer is called 7\. Linear layers and convolutions: 0, 3, 5"):
        dropped_names(module, ["7"], biases=False)
    with pytest.raises(ValueError, match="=none chooses no layer"):
        dropped_names(module, [], biases=False)
    with pytest.raises(ValueError, match=r"has none\..*convolutions: 0"):
        dropped_names(nn.Sequential(nn.Conv2d(1, 1, 1)), None, biases=False)
    tied = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"drops 1\.weight, which is tied"):
        Dropconnect(p=0.5, layers=None, biases=True).setup(tied, {"0.weight": tied[0].weight}, images(2), 0)
    wider = nn.Sequential(tied[0], nn.Linear(3, 3), tied[1])
    some = Dropconnect(p=0.5, layers=None, biases=True)
    own = {name: p.detach() for name, p in wider.named_parameters()}
    some.setup(wider, own, images(2), 0)
    seen: list[set[str]] = []

    def inner(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        seen.append({name for name in own if not torch.equal(params[name], own[name])})
        return torch.zeros(()), {}

    some.loss(inner)(own, images(2), context(wider))
    assert seen[0] <= {"1.weight", "1.bias"}
    assert "1.weight" in seen[0]


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_a_schedule_drives_the_rate(engine: str) -> None:
    schedule = "technique.dropconnect.p={schedule: linear, start: 0.0, end: 0.5}"
    run = make("technique=dropconnect", schedule, f"engine={engine}", "max_steps=4", "optim=sgd")
    plain = make("max_steps=4", f"engine={engine}", "optim=sgd")
    batch = next(run.source.stream(0))
    losses = []
    for one in (run, plain):
        torch.manual_seed(0)
        losses.append(float(one.step(one.state, batch, one.hypers.at(0))[1]["loss"]))
    assert losses[0] == losses[1]
