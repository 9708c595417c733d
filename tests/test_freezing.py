"""Frozen parameters do not change under any optimiser, and their gradient is not computed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
from bare import context, images, params_of, small_net
from contract import advance, assert_same, largest_difference, make
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mltricks.build import Run
from mltricks.freezing import frozen_names, still_norms
from mltricks.objectives.classify import Classify
from mltricks.stack.run import StackedRun, build_all
from mltricks.state import map_state
from mltricks.step import gradient
from mltricks.technique import Params, Technique


def freezing(include: str, *overrides: str, beside: str = "") -> Run:
    return make(*choice(include, beside), "model=mlp", "model.width=8", "model.depth=3", *overrides)


def choice(include: str, beside: str = "") -> list[str]:
    names = f"technique=[freeze{beside and ','}{beside}]"
    return [names, f"technique.freeze.include={include}", "technique.freeze.exclude=none"]


def split(run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the frozen parameters, and of the other parameters."""
    params = map_state(torch.clone, run.state["params"])
    return {n: params[n] for n in params if n in run.frozen}, {n: params[n] for n in params if n not in run.frozen}


OPTIMS = ["sgd", "adam", "adamw", "lion", "muon", "nadam", "lars", "schedule_free", "torch optim.name=RMSprop"]
LISTS = ["ema", "clip_norm,sam", "accumulate", "layerwise_lr", "l2"]


@pytest.mark.parametrize("optim", OPTIMS)
def test_frozen_parameters_stay_under_momentum_and_decay(optim: str) -> None:
    run = freezing(
        "['hidden.2*']", *f"optim={optim}".split(), *([] if "torch" in optim else ["optim.weight_decay=0.5"])
    )
    assert run.frozen
    assert not any(name in run.frozen for slot in run.state["opt"].values() if isinstance(slot, dict) for name in slot)
    frozen, moving = split(run)
    advance(run, 6)
    still, moved = split(run)
    assert_same(frozen, still)
    assert all(not torch.equal(moving[name], moved[name]) for name in moving)
    assert list(run.state["params"]) == list(run.model.module.state_dict())


@pytest.mark.parametrize("techniques", LISTS)
@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_techniques_do_not_change_frozen_parameters(techniques: str, engine: str) -> None:
    run = freezing("['hidden.2*']", f"engine={engine}", beside=techniques)
    frozen, _ = split(run)
    advance(run, 4)
    assert_same(frozen, split(run)[0])
    if techniques == "ema":
        assert_same(frozen, {name: run.state["own"]["ema"]["params"][name] for name in frozen})


def test_the_other_parameters_learn_as_if_the_frozen_ones_were_constants() -> None:
    run = freezing("['hidden.0*','hidden.2*']", "optim=sgd", "optim.lr=0.1", "optim.momentum=0", "optim.weight_decay=0")
    module, batch = run.model.module, next(run.batches())
    named = dict(module.named_parameters())
    for name, p in named.items():
        p.requires_grad_(name not in run.frozen)
    torch.nn.functional.cross_entropy(module(run.data.info.normalize(batch["x"])), batch["y"]).backward()
    assert 0 < len(run.frozen) < len(named)
    expected = {n: p.detach() - 0.1 * p.grad if p.grad is not None else p.detach() for n, p in named.items()}
    advance(run, 1)
    torch.testing.assert_close(run.state["params"], expected)


def operations(fn: Callable[[], Any]) -> list[str]:
    seen: list[str] = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Count():
        fn()
    return seen


def test_the_backward_pass_stops_before_frozen_layers() -> None:
    module, batch = small_net(), images(4)
    params = params_of(module)
    head = {name: p for name, p in params.items() if name.startswith("5")}
    whole = operations(lambda: gradient(Classify())(params, batch, context(module)))
    cut = operations(lambda: gradient(Classify(), params)(head, batch, context(module)))
    assert sum("convolution_backward" in op for op in whole) == 1
    assert not any("convolution_backward" in op or "threshold_backward" in op for op in cut)
    grads, _ = gradient(Classify(), params)(head, batch, context(module))
    wanted, _ = gradient(Classify())(params, batch, context(module))
    assert_same(grads, {name: wanted[name] for name in head})


@pytest.mark.parametrize("norms", ["fixed", "adapt", "train"])
def test_norms_of_frozen_layers_do_as_told(norms: str) -> None:
    run = make(*choice("['prep*']"), f"technique.freeze.norms={norms}", "model=resnet9", "model.width=2")
    scale = "prep.1.weight"
    before = map_state(torch.clone, {**run.state["buffers"], scale: run.state["params"][scale]})
    advance(run, 2)
    after = {**run.state["buffers"], scale: run.state["params"][scale]}
    changed = {name for name, b in after.items() if not torch.equal(b, before[name])}
    prep = {name for name in before if name.startswith("prep")}
    assert changed == set(before) - {"fixed": prep, "adapt": {scale}, "train": set()}[norms]
    assert len(prep) > 1


def test_a_fixed_norm_computes_what_evaluation_mode_computes() -> None:
    run = make(*choice("['prep*']"), "model=resnet9", "model.width=2")
    batch = next(run.batches())
    x, module = run.data.info.normalize(batch["x"]), run.model.module
    state = map_state(torch.clone, run.state["buffers"])
    _, _, captured = run.model(run.state["params"], state, x, True, ["prep"])
    torch.testing.assert_close(captured["prep"][1], module.get_submodule("prep").eval()(x), rtol=0, atol=0)


def test_a_norm_without_parameters_follows_the_layer_before_it() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False))
    assert still_norms(module, {"1.weight", "1.bias"}) == [module[2]]
    assert still_norms(module, {"1.weight"}) == []


def test_a_stack_equals_the_runs_alone() -> None:
    cfgs = [freezing("['hidden.2*']", "optim=sgd", f"seed={k}", f"optim.lr={0.01 * (k + 1)}").cfg for k in range(2)]
    stacked = StackedRun(build_all(cfgs))
    losses = stacked.advance(8)["loss"]
    for k, run in enumerate(build_all(cfgs)):
        frozen, _ = split(run)
        assert losses[k].tolist() == pytest.approx(advance(run, 8), abs=1e-5)
        row = stacked.row(k)
        assert_same(frozen, {name: row["params"][name] for name in frozen})
        assert largest_difference(row, run.state) < 1e-5


def test_only_trained_parameters_are_counted() -> None:
    run = freezing("['hidden.2*']")
    total = sum(p.numel() for p in run.model.module.parameters())
    assert run.num_params == total - sum(run.state["params"][name].numel() for name in run.frozen)


def test_only_the_last_layer_learns_by_default() -> None:
    for model in ("mlp", "vit", "resnet9"):
        run = make("technique=freeze", f"model={model}")
        learning = {name for name in run.state["params"] if name not in run.frozen}
        assert learning <= {"head.weight", "head.bias"}
        assert "head.weight" in learning


def test_what_other_techniques_add_is_frozen_by_name_only() -> None:
    run = make("technique=[simclr,freeze]")
    added = {name for name in run.state["params"] if "/" in name}
    assert added
    assert not added & run.frozen
    assert added <= make("technique=[simclr,freeze]", "technique.freeze.include=simclr/*").frozen


def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"freeze\.include=\* technique\.freeze\.exclude=none leaves nothing"):
        freezing("['*']")
    with pytest.raises(ValueError, match=r"technique\.freeze\.include has hiden\.\*, which matches .* hidden"):
        freezing("['hiden.*']")
    with pytest.raises(ValueError, match=r"freezes nothing, so it has no effect\. The layers are hidden\.0, .*head\."):
        make("technique=freeze", "model=mlp", "technique.freeze.include=last_layer")
    with pytest.raises(ValueError, match=r"technique\.freeze\.norms=moving is not an option\. .*fixed"):
        make("technique=freeze", "technique.freeze.norms=moving")

    class Strange(Technique):
        def frozen(self, params: Params) -> Collection[str]:
            return ["head.weihgt"]

    class All(Technique):
        def frozen(self, params: Params) -> Collection[str]:
            return params

    with pytest.raises(ValueError, match=r"technique=strange freezes head\.weihgt, .*head\.weight"):
        frozen_names({"strange": Strange()}, {"head.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"technique=strange leaves nothing to train"):
        frozen_names({"strange": All()}, {"head.weight": torch.ones(1)})
