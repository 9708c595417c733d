"""A technique passes values from its loss through ``aux`` to its ``after``; and a context with other buffers.

The technique here is a minimal momentum contrast (MoCo): a slow copy of the network, with its own statistics, computes
keys of the batch, and the keys are queued after the update.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bare import context, images, params_of, sgd, small_net, train
from torch import nn

from mltricks.batch import Batch
from mltricks.config.values import Count, Probability
from mltricks.technique import Aux, Ctx, LossFn, Own, Params, Technique
from mltricks.techniques.accumulate import Accumulate


@dataclass(frozen=True)
class Keys(Technique):
    """slow = momentum slow + (1 - momentum) weights; the queue holds the slow network's last outputs.

    Args:
        momentum: factor on the slow weights in each update.
        length: number of keys in the queue.
    """

    momentum: Probability
    length: Count

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        slow = {"params": {n: p.clone() for n, p in params.items()}}
        slow["buffers"] = {n: b.clone() for n, b in model.named_buffers()}
        return params, {**slow, "queue": torch.zeros(self.length, 4)}

    def loss(self, inner: LossFn) -> LossFn:
        def loss(params: Params, batch: Batch, ctx: Ctx):
            value, aux = inner(params, batch, ctx)
            slow = ctx.fork(buffers=ctx.own["buffers"])
            with torch.no_grad():
                keys = slow.apply(ctx.own["params"], batch["x"])
            return value, {**aux, "keys": {"made": keys, "buffers": slow.buffers}}

        return loss

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        slow = {n: p.lerp(params[n], 1 - self.momentum) for n, p in ctx.own["params"].items()}
        queue = torch.cat([ctx.own["queue"], aux["keys"]["made"]])[-self.length :]
        return params, {"params": slow, "buffers": aux["keys"]["buffers"], "queue": queue}


def test_a_fork_may_have_other_buffers_and_does_not_change_the_original() -> None:
    module = small_net(norm=True)
    ctx = context(module)
    other = {name: b + 1 for name, b in ctx.buffers.items()}
    before, given = dict(ctx.buffers), dict(other)
    fork = ctx.fork(buffers=other)
    fork.apply(params_of(module), images(6)["x"])
    assert int(fork.buffers["1.num_batches_tracked"]) == 2
    for kept, now in ((before, ctx.buffers), (given, other)):
        assert all(now[name] is tensor for name, tensor in kept.items())
    assert ctx.fork().buffers == ctx.buffers


def test_values_from_the_loss_reach_after() -> None:
    batches = [images(6, seed) for seed in range(3)]
    history = train(small_net(norm=True), batches, sgd(0.1), keys=Keys(momentum=0.5, length=10))
    slow, queue = small_net(norm=True), torch.zeros(0, 4)
    weights = params_of(slow)
    for batch, (state, _) in zip(batches, history, strict=True):
        slow.load_state_dict(weights, strict=False)
        with torch.no_grad():
            queue = torch.cat([queue, slow(batch["x"])])[-10:]
        weights = {n: p.lerp(state["params"][n], 0.5) for n, p in weights.items()}
        own = state["own"]["keys"]
        torch.testing.assert_close(own["queue"][-len(queue) :], queue)
        torch.testing.assert_close(own["params"], weights)
        torch.testing.assert_close(own["buffers"], dict(slow.named_buffers()))


def test_values_of_all_micro_batches_are_concatenated() -> None:
    batches = [images(6, seed) for seed in range(3)]
    whole = train(small_net(), batches, sgd(0.1), keys=Keys(momentum=0.5, length=10))[-1][0]
    cut = train(small_net(), batches, sgd(0.1), a=Accumulate(num_micro=3), keys=Keys(momentum=0.5, length=10))[-1][0]
    torch.testing.assert_close(cut["own"]["keys"]["queue"], whole["own"]["keys"]["queue"])
