"""An optimiser that trains one set of weights and predicts with another, from validation to the loaded model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import TINY
from contract import advance, largest_difference, make
from test_fused import assert_members_end_as_alone
from torch import Tensor

import mltricks
from mltricks import checkpoint
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.evaluate import evaluate
from mltricks.launch.check import check_parts
from mltricks.optim.base import Opt
from mltricks.optim.sgd import SGD
from mltricks.technique import Params
from mltricks.weights import load_weights


@dataclass(frozen=True)
class Polyak(SGD):
    """Gradient descent that predicts with the mean of all past weights (Polyak averaging)."""

    slots = ("momentum", "average")

    def rule(self, grads, slots, params, count):
        params, new = super().rule(grads, {"momentum": slots["momentum"]}, params, count)
        average = [a + (p - a) / count for a, p in zip(slots["average"], params, strict=True)]
        return params, {**new, "average": average}

    def evaluate(self, params: Params, opt: Opt) -> Params:
        return opt["average"]


POLYAK = ["optim=sgd", f"optim._target_={__name__}.Polyak", f"allow_modules=[{__name__}]", "optim.lr=0.05"]


def test_predictions_use_the_mean_of_the_weights() -> None:
    run = make(*POLYAK, "model=mlp", "model.width=8")
    total: dict[str, Tensor] = {}
    for step in range(7):
        advance(run, 1, step)
        total = {n: total.get(n, 0) + p.double() for n, p in run.state["params"].items()}
    mean = {n: (t / 7).float() for n, t in total.items()}
    x = next(run.data.val.batches([torch.arange(20)]))["x"]
    module = run.model.module
    module.load_state_dict(mean)
    module.eval()
    torch.testing.assert_close(run.predict(run.state, x), module(run.data.info.normalize(x)).detach())
    module.load_state_dict(run.state["params"])
    assert (run.predict(run.state, x) - module(run.data.info.normalize(x))).abs().max() > 1e-3


@pytest.mark.parametrize("technique", ["[]", "[tta]"])
def test_best_weights_and_the_loaded_model_are_the_mean(technique: str, tmp_path: Path) -> None:
    cfg = mltricks.compose([*TINY, *POLYAK, "epochs=1", f"technique={technique}"])
    mltricks.train(cfg, tmp_path)
    saved = checkpoint.load(tmp_path)["state"]
    tensors, _ = load_weights(tmp_path)
    for name, average in saved["opt"]["average"].items():
        assert torch.equal(tensors[f"params.{name}"], average)
        assert not torch.equal(tensors[f"params.{name}"], saved["params"][name])
    run = build(plain(cfg))
    model = mltricks.load(tmp_path, allow_modules=[__name__])
    state = checkpoint.restore(saved, run.state, tmp_path)
    batch = next(run.data.test.batches([torch.arange(30)]))
    expected = run.objective.predict(run.predict(state, batch["x"]))
    torch.testing.assert_close(model.predict(batch["x"]), expected.cpu())
    measured = evaluate(run.predict, run.objective, state, run.data.val, 100)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["split"] == "val"][-1]
    assert last["loss"] == pytest.approx(measured["loss"], abs=1e-6)


def test_a_resumed_run_continues_its_mean(tmp_path: Path) -> None:
    whole, part = make(*POLYAK), make(*POLYAK)
    advance(whole, 8)
    advance(part, 5)
    checkpoint.save(tmp_path / "last.pt", part.state, part.cfg)
    other = make(*POLYAK)
    other.state = checkpoint.restore(checkpoint.load(tmp_path / "last.pt")["state"], other.state, tmp_path)
    advance(other, 3, 5)
    assert largest_difference(whole.state, other.state) == 0.0


def test_the_members_of_a_stack_are_evaluated_with_their_means(tmp_path: Path) -> None:
    shared = [*TINY, *POLYAK, "model=mlp", "model.width=16", "epochs=2", "plots=false"]
    varied = [["seed=0"], ["seed=1", "optim.lr=0.02"]]
    assert_members_end_as_alone(tmp_path, shared, varied, 1e-4, rtol=1e-5, atol=1e-5)


def test_techniques_that_change_weights_after_the_update_are_refused() -> None:
    with pytest.raises(ValueError, match=r"optim=Polyak .* technique=layerwise_lr changes the weights"):
        make(*POLYAK, "technique=layerwise_lr")


def test_a_second_average_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optim=Polyak predicts with weights of its own, and technique=ema would"):
        make(*POLYAK, "technique=ema")
    cfg = {**make(*POLYAK).cfg, "technique": make("technique=ema").cfg["technique"]}
    with pytest.raises(ValueError, match="Leave ema out"):
        check_parts(cfg)
