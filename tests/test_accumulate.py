"""Accumulated gradients compared with those of the whole batch, and clipping compared with torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, sgd, small_net, train
from contract import make
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional.micro_batches import merge, pieces
from mltricks.objectives.classify import Classify
from mltricks.step import gradient
from mltricks.technique import Aux, Ctx, Params
from mltricks.techniques.accumulate import Accumulate
from mltricks.techniques.clip_norm import ClipNorm


@pytest.mark.parametrize(("count", "num_micro"), [(12, 3), (11, 4), (5, 5)])
def test_gradient_and_metrics_equal_those_of_the_whole_batch(count: int, num_micro: int) -> None:
    module, batch = small_net().double(), images(count)
    batch["x"] = batch["x"].double()
    base = gradient(Classify())
    whole, whole_aux = base(params_of(module), batch, context(module))
    grads, aux = Accumulate(num_micro=num_micro).grads(base)(params_of(module), batch, context(module))
    torch.testing.assert_close(grads, whole)
    torch.testing.assert_close(aux["metrics"]["loss"], whole_aux["metrics"]["loss"])
    torch.testing.assert_close(aux["metrics"]["accuracy"], whole_aux["metrics"]["accuracy"])


def test_batch_norm_statistics_follow_the_micro_batches_in_order() -> None:
    batch, module = images(10), small_net(norm=True)
    state, _ = train(small_net(norm=True), [batch], sgd(0.1), accumulate=Accumulate(num_micro=3))[-1]
    for x in (batch["x"][:3], batch["x"][3:6], batch["x"][6:]):
        module(x)
    expected = dict(module.named_buffers())
    assert int(state["buffers"]["1.num_batches_tracked"]) == 3
    torch.testing.assert_close(state["buffers"], expected)


def both_parts(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
    """A loss with a term on labelled and a term on unlabelled samples."""
    loss = F.cross_entropy(ctx.apply(params, batch["x"]), batch["y"])
    loss = loss + ctx.apply(params, batch["x_unlabeled"]).square().mean()
    return loss, {"metrics": {"loss": loss}}


@pytest.mark.parametrize("num_micro", [2, 3, 5])
def test_unlabelled_samples_are_split_too(num_micro: int) -> None:
    module, batch = small_net().double(), images(7)
    batch = {"x": batch["x"].double(), "y": batch["y"], "x_unlabeled": images(21, seed=1)["x"].double()}
    base = gradient(both_parts)
    whole, _ = base(params_of(module), batch, context(module))
    grads, _ = Accumulate(num_micro=num_micro).grads(base)(params_of(module), batch, context(module))
    torch.testing.assert_close(grads, whole)


def test_micro_batches_hold_every_sample_once_in_order() -> None:
    batch = {"x": torch.arange(11), "y": torch.arange(11), "x_unlabeled": torch.arange(22)}
    cut = pieces(batch, 4)
    assert [len(p["x"]) for p in cut] == [2, 3, 3, 3]
    assert all(len(p["x_unlabeled"]) == 2 * len(p["x"]) for p in cut)
    for key, value in batch.items():
        assert torch.equal(torch.cat([p[key] for p in cut]), value)
    assert len(pieces({"x": torch.arange(2), "y": torch.arange(2)}, 4)) == 2  # the short last batch of an epoch


def test_merge_combines_metrics_tensors_and_flags_of_micro_batches() -> None:
    def said(loss: float, keys: list[float], finite: bool) -> Aux:
        return {
            "metrics": {"loss": torch.tensor(loss)},
            "queue": {"keys": torch.tensor(keys)},
            "finite": torch.tensor(finite),
        }

    merged = merge([said(1.0, [1.0], True), said(4.0, [2.0, 3.0], False)], [1 / 3, 2 / 3])
    torch.testing.assert_close(merged["metrics"]["loss"], torch.tensor(3.0))
    assert merged["queue"]["keys"].tolist() == [1.0, 2.0, 3.0]
    assert not merged["finite"]


def test_more_micro_batches_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_micro=17 is more than the 16 samples.*num_micro=16"):
        make("technique=accumulate", "technique.accumulate.num_micro=17")


@pytest.mark.parametrize("max_norm", [0.01, 0.5, 1e9])
def test_clipping_equals_torchs(max_norm: float) -> None:
    module, batch = small_net(), images(16)
    clipped, aux = ClipNorm(max_norm=max_norm).grads(gradient(Classify()))(params_of(module), batch, context(module))
    F.cross_entropy(module(batch["x"]), batch["y"]).backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), max_norm)
    assert torch.equal(aux["metrics"]["grad_norm"], norm)
    for name, p in module.named_parameters():
        assert torch.equal(clipped[name], p.grad)
