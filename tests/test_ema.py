"""The average of the weights compared with torch's, with batch norm, and its warm-up."""

from __future__ import annotations

import copy

import torch
from bare import CLASSES, images, sgd, small_net, train
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mltricks.functional_model import FunctionalModel
from mltricks.step import build_predict
from mltricks.techniques.dropout import Dropout
from mltricks.techniques.ema import Ema


def test_average_and_prediction_equal_those_of_torchs_averaged_model() -> None:
    module, batches, x = small_net(norm=True), [images(16, seed) for seed in range(6)], images(5, 9)["x"]
    follower = copy.deepcopy(module)
    reference = AveragedModel(follower, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    reference.update_parameters(follower)  # the first update only copies
    ema = Ema(decay=0.8, warmup=False)
    history = train(module, batches, sgd(0.1), ema=ema)
    for state, _ in history:
        follower.load_state_dict({**state["params"], **state["buffers"]})
        reference.update_parameters(follower)
    state = history[-1][0]
    for name, tensor in reference.module.named_parameters():
        torch.testing.assert_close(state["own"]["ema"]["params"][name], tensor.detach())
    averaged = state["own"]["ema"]["buffers"]
    assert set(averaged) == {"1.running_mean", "1.running_var"}
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, reference.module.get_buffer(name))
    predict = build_predict(FunctionalModel(module), {"ema": ema}, lambda x: x, CLASSES)
    reference.eval()
    torch.testing.assert_close(predict(state, x), reference(x).detach())


def test_training_is_untouched() -> None:
    batches = [images(16, seed) for seed in range(4)]
    with_ema = train(small_net(norm=True), batches, sgd(0.1), ema=Ema(decay=0.9, warmup=True))[-1][0]
    without = train(small_net(norm=True), batches, sgd(0.1))[-1][0]
    for part in ("params", "buffers"):
        assert all(torch.equal(with_ema[part][name], without[part][name]) for name in without[part])


def test_with_warmup_the_first_weights_fade_quickly() -> None:
    batches = [images(16, seed) for seed in range(4)]
    start = small_net().get_parameter("0.weight").detach().clone()
    history = train(small_net(), batches, sgd(0.1), ema=Ema(decay=0.3, warmup=True))
    expected = start
    for t, (state, _) in enumerate(history, 1):
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * state["params"]["0.weight"]
        torch.testing.assert_close(state["own"]["ema"]["params"]["0.weight"], expected)


def test_buffers_added_by_later_techniques_are_those_of_the_model() -> None:
    module = small_net(norm=True)
    techniques = {"ema": Ema(decay=0.5, warmup=False), "dropout": Dropout(p=0.5, layers=None)}
    state = train(module, [images(16)], sgd(0.1), **techniques)[-1][0]
    assert "6.dropout_p" in state["buffers"]
    assert "6.dropout_p" not in state["own"]["ema"]["buffers"]
    predict = build_predict(FunctionalModel(module), techniques, lambda x: x, CLASSES)
    assert predict(state, images(3)["x"]).shape == (3, CLASSES)
