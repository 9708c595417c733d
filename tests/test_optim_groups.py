"""Parameter groups by pattern: the same weights as groups of torch.optim, under every engine and in stacks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_optim import (
    SMALL,
    Params,
    advance,
    assert_close,
    build_small,
    make,
    model,
    random_gradients,
    train_ours,
    train_torch,
)
from torch import nn

import mltricks
from mltricks import show
from mltricks.config.compose import plain
from mltricks.launch.check import check_parts
from mltricks.optim.matching import matching
from mltricks.probes.bare import bare_config
from mltricks.stack.run import build_all, train_stacked
from mltricks.stack.structure import structure
from mltricks.technique import bind

RECORD = {"bias": {"lr": "x64", "weight_decay": "x0.015625"}}
"""Groups of the CIFAR-10 records: biases learn 64 times as fast, at the same product of rate and decay."""
PARAMS: Params = {name: p.detach() for name, p in model().named_parameters()}


def test_words_tell_the_kinds_of_parameters() -> None:
    assert matching(["bias"], PARAMS) == {"conv.bias", "norm.bias", "hidden.bias", "head.bias"}
    assert matching(["norm"], PARAMS) == {"norm.weight", "norm.bias"}
    assert matching(["convolution"], PARAMS) == {"conv.weight", "conv2.weight"}
    assert matching(["linear"], PARAMS) == {"hidden.weight", "head.weight"}
    more = {"emb.weight": torch.ones(5, 4), "pos_emb": torch.ones(1, 3, 4), "rnn.weight_ih_l0": torch.ones(8, 4)}
    more |= {
        "rnn.bias_ih_l0": torch.ones(8),
        "cls": torch.ones(1, 1, 4),
        "weight": torch.ones(3),
        "bias": torch.ones(3),
    }
    assert matching(["linear", "convolution"], more) == {"rnn.weight_ih_l0"}
    assert matching(["bias"], more) == {"rnn.bias_ih_l0", "bias"}
    assert matching(["norm"], more) == {"weight", "bias"}


def of_torch(net: nn.Module, base: Any, **settings: Any) -> Any:
    """An optimiser of torch with the biases of the record in a group of their own."""
    lr, decay = settings.pop("lr"), settings.pop("weight_decay")
    own = [p for name, p in net.named_parameters() if name.endswith("bias")]
    others = [p for name, p in net.named_parameters() if not name.endswith("bias")]
    groups = [{"params": others}, {"params": own, "lr": 64 * lr, "weight_decay": decay / 64}]
    return base(groups, lr=lr, weight_decay=decay, **settings)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 1e-3, "weight_decay": 0.3, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 1e-4, "weight_decay": 0.3}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-4, "weight_decay": 0.3}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-5, "weight_decay": 0.3, "momentum": 0.5, "centered": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-3, "weight_decay": 0.3}),
    "radam": (torch.optim.RAdam, {"lr": 1e-4, "weight_decay": 0.3}),
    "nadam": (torch.optim.NAdam, {"lr": 1e-4, "weight_decay": 0.3}),
}


@pytest.mark.parametrize("way", ["pure", "in place", "tensors", "unrolled"])
@pytest.mark.parametrize("name", CASES)
def test_groups_equal_the_parameter_groups_of_torch(name: str, way: str) -> None:
    base, settings = CASES[name]
    ours = train_ours(make(name, **settings, groups=RECORD), way)
    assert_close(ours, train_torch(lambda net: of_torch(net, base, **settings)))


def update_once(optim: Any) -> Params:
    return optim.update(random_gradients(PARAMS, 1)[0], optim.init(PARAMS), PARAMS)[0]


def test_a_number_replaces_a_float_and_two_groups_may_meet() -> None:
    groups = {"norm": {"lr": 0.5}, "*.bias": {"weight_decay": 0.25}, "head": {"lr": "x2", "momentum": 0.5}}
    found = update_once(make("sgd", lr=0.1, weight_decay=0.0, groups=groups))
    g = random_gradients(PARAMS, 1)[0]
    for name, p in PARAMS.items():
        lr = {"norm.weight": 0.5, "norm.bias": 0.5, "head.weight": 0.2}.get(name, 0.1)
        decay = 0.25 if name.endswith("bias") else 0.0
        torch.testing.assert_close(found[name], p - lr * (g[name] + decay * p), msg=name)


def test_muon_and_its_adamw_have_groups() -> None:
    settings = {"lr": 0.02, "adam_lr": 1e-3, "weight_decay": 0.1, "adam_params": ["head"]}
    changed = update_once(make("muon", **settings, groups={"bias": {"adam_lr": "x64"}, "convolution": {"lr": 0.5}}))
    usual, fast = update_once(make("muon", **settings)), update_once(make("muon", **{**settings, "lr": 0.5}))
    faster = update_once(make("muon", **{**settings, "adam_lr": 0.064}))
    for name in PARAMS:
        expected = fast if name in ("conv.weight", "conv2.weight") else faster if name.endswith("bias") else usual
        assert torch.equal(changed[name], expected[name]), name


def test_no_decay_and_groups_compose() -> None:
    plain_, spared = (update_once(make("adamw", weight_decay=9.0, no_decay=no)) for no in ([], ["norm_and_bias"]))
    grouped = update_once(make("adamw", weight_decay=9.0, no_decay=["norm_and_bias"], groups={"conv*": {"beta1": 0.5}}))
    for name in PARAMS:
        torch.testing.assert_close(grouped[name], spared[name])
    assert not torch.equal(plain_["conv.bias"], spared["conv.bias"])


BY_NAME = {
    ("torch", "RMSprop"): {"momentum": 0.5, "alpha": 0.9},
    ("torch", "NAdam"): {"momentum_decay": 0.01, "decoupled_weight_decay": True},
    ("timm", "adan"): {"eps": 1e-6},
    ("timm", "lamb"): {"max_grad_norm": None},
}


@pytest.mark.parametrize("option", BY_NAME)
def test_optimisers_by_name_have_groups_with_their_arguments(option: tuple[str, str]) -> None:
    package, name = option
    arguments = BY_NAME[option]
    groups = {"bias": {"lr": "x64", "eps": 1e-3}, "norm.weight": {"weight_decay": "x0.5"}, "conv*.weight": {"lr": 2e-3}}
    settings = {"name": name, "lr": 1e-4, "weight_decay": 0.3, "arguments": arguments, "no_decay": ["head.*"]}
    ours = train_ours(make(package, **settings, groups=groups), "in place")

    def theirs(net: nn.Module) -> Any:
        made = []
        for key, p in net.named_parameters():
            own: dict[str, Any] = {"lr": 64e-4, "eps": 1e-3} if key.endswith("bias") else {}
            own |= {"lr": 2e-3} if key in ("conv.weight", "conv2.weight") else {}
            own |= {"weight_decay": 0.0} if key.startswith("head") else {}
            made.append({"params": [p], **own, **({"weight_decay": 0.15} if key == "norm.weight" else {})})
        return make(package, **settings).constructor()(made, lr=1e-4, weight_decay=0.3, **arguments)

    theirs_now = train_torch(theirs)
    assert_close(ours, theirs_now, rtol=1e-6, atol=1e-7)


NOT_BY_NAME = {
    "argument": (
        {"bias": {"alfa": 0.5}},
        r"bias has alfa, which is no float of optim=torch\. Did you mean alpha",
    ),
    "no number": ({"bias": {"centered": 0.5}}, "has centered, which is no float"),
    "range": ({"bias": {"alpha": -0.5}}, "Invalid alpha value"),
}


@pytest.mark.parametrize("case", NOT_BY_NAME)
def test_the_class_refuses_arguments_of_groups(case: str) -> None:
    groups, said = NOT_BY_NAME[case]
    with pytest.raises(ValueError, match=said):
        make("torch", groups=groups)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown float": (
        {"bias": {"lrr": 1.0}},
        r"bias has lrr, which is no float of optim=sgd\. Did you mean lr",
    ),
    "no float": ({"bias": {"nesterov": 1.0}}, "has nesterov, which is no float"),
    "range": ({"bias": {"lr": -1.0}}, r"optim\.groups\.bias\.lr=-1\.0 is out of range"),
    "multiple out of range": ({"bias": {"lr": "x0"}}, r"groups\.bias\.lr=x0.*out of range"),
    "multiple of a bounded float": ({"bias": {"momentum": "x1.01"}}, r"could leave the range .* Type a number"),
    "text": ({"bias": {"lr": "64x"}}, r"groups\.bias\.lr=64x must be .*optim\.groups={bias: {lr: x2}}"),
    "schedule": ({"bias": {"lr": {"schedule": "cosine"}}}, "must be a number, or a text as x2"),
    "bool": ({"bias": {"lr": True}}, "must be a number"),
    "no floats": ({"bias": 3.0}, r"groups\.bias=3\.0 names no floats"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_group_is_refused_before_the_run(case: str) -> None:
    groups, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        make("sgd", groups=groups)


WITHOUT_EFFECT: dict[str, tuple[str, dict[str, Any], str]] = {
    "no parameter": ("sgd", {"groups": {"hed.*": {"lr": 1.0}}}, r"optim\.groups has hed\.\*, which matches no"),
    "word without a parameter": ("sgd", {"groups": {"embedding": {"lr": 1.0}}}, "has embedding, which matches no"),
    "twice": (
        "sgd",
        {"groups": {"norm": {"lr": 1.0}, "bias": {"lr": "x2"}}},
        r"norm\.bias is in two groups",
    ),
    "muon's rate": (
        "muon",
        {"groups": {"bias": {"lr": "x2"}}},
        r"bias\.lr has no effect on conv\.bias.*adam_lr",
    ),
    "adamw's rate": ("muon", {"groups": {"hidden.weight": {"adam_lr": 1.0}}}, r"adam_lr has no effect .* lr, momentum"),
    "spared": (
        "sgd",
        {"no_decay": ["bias"], "groups": {"bias": {"weight_decay": 1.0}}},
        r"weight_decay has no effect .*they are without decay",
    ),
}


@pytest.mark.parametrize("case", WITHOUT_EFFECT)
def test_a_group_without_effect_is_refused(case: str) -> None:
    option, changes, said = WITHOUT_EFFECT[case]
    with pytest.raises(ValueError, match=said):
        make(option, **changes).init(PARAMS)


def test_a_group_of_norms_whose_scales_are_frozen_is_told_their_word() -> None:
    shifts = {name: p for name, p in PARAMS.items() if name != "norm.weight"}
    with pytest.raises(ValueError, match=r"has norm, which matches no trained .* norms with frozen scales are bias\."):
        make("sgd", groups={"norm": {"lr": 1.0}}).init(shifts)


def test_a_bare_run_has_no_decay_in_groups_either() -> None:
    groups = "optim.groups={bias: {weight_decay: 0.5, lr: x2}, head: {weight_decay: x3}}"
    cfg = bare_config(plain(mltricks.compose([groups])))
    assert cfg["optim"]["groups"] == {"bias": {"weight_decay": 0.0, "lr": "x2"}, "head": {"weight_decay": 0.0}}


# Whole runs

GROUPS = "optim.groups={bias: {lr: x8, weight_decay: x0.125}, head: {lr: 0.2, momentum: 0.5}}"
SGD = ["optim=sgd", "optim.lr=0.05", "optim.weight_decay=0.01", GROUPS, "scheduler=cosine"]


def test_the_schedule_drives_the_rates_of_all_groups() -> None:
    run = build_small(*SGD)
    half = run.hypers.values(run.total_steps // 2)
    optim = bind(run.optim, {name: value for (_, name), value in half.items()})
    rates = {name: rule.lr for names, rule in optim.parts(run.state["params"]) for name in names}
    assert {name: pytest.approx(rate) for name, rate in rates.items()} == {
        name: 0.1 if name == "head.weight" else 0.2 if name.endswith("bias") else 0.025 for name in run.state["params"]
    }


def test_a_traced_run_with_groups_equals_the_eager_one() -> None:
    assert advance(build_small(*SGD), 8) == pytest.approx(advance(build_small(*SGD, "engine=traced"), 8), rel=2e-4)


def test_the_rows_of_a_stack_have_their_groups() -> None:
    """Trials with different rates and schedules: a rate given as a number follows the scheduler and not optim.lr."""
    varied = [["optim.lr=0.01", "scheduler.final=0.1"], ["optim.lr=0.08", "seed=1"]]
    cfgs = [plain(mltricks.compose([*SMALL, *SGD, *own, "max_steps=8"])) for own in varied]
    for result, alone in zip(train_stacked(cfgs), build_all(cfgs), strict=True):
        advance(alone, 8)
        for name, p in alone.state["params"].items():
            torch.testing.assert_close(result.state["params"][name], p, rtol=1e-4, atol=2e-5)


def test_trials_that_differ_in_groups_are_no_stack() -> None:
    one, other = (plain(mltricks.compose(["optim.groups={bias: {lr: " + v + "}}"])) for v in ("x2", "x4"))
    assert structure(one)["optim.groups.bias.lr"] == "x2"
    assert structure(one) != structure(other)


def test_a_sweep_over_groups_is_checked_before_its_first_job() -> None:
    with pytest.raises(ValueError, match=r"groups\.bias\.lr=x-1 must be"):
        check_parts(plain(mltricks.compose(["optim.groups={bias: {lr: x-1}}"])))


def test_patterns_are_typed_on_the_command_line() -> None:
    cfg = plain(mltricks.compose(["optim.groups={*.weight: {lr: x2}, norm?0: {lr: 1e-3, weight_decay: 0}}"]))
    assert cfg["optim"]["groups"] == {"*.weight": {"lr": "x2"}, "norm?0": {"lr": 1e-3, "weight_decay": 0}}
    assert "groups={*.weight: {lr: x2}}  scale_lr=none" in "\n".join(
        show.describe(build_small("optim=sgd", "optim.groups={*.weight: {lr: x2}}"))
    )


def test_a_group_can_keep_the_learning_rate_that_a_schedule_lowers_for_the_others() -> None:
    optim, grads = (
        make("sgd", lr=0.1, momentum=0.0, weight_decay=0.0, groups={"head": {"lr": "constant"}}),
        random_gradients(PARAMS, 1)[0],
    )
    lowered, _ = bind(optim, {"lr": 0.01}).update(grads, optim.init(PARAMS), PARAMS)
    for name, p in PARAMS.items():
        torch.testing.assert_close(lowered[name], p - (0.1 if name == "head.weight" else 0.01) * grads[name])


def test_trials_of_other_learning_rates_keep_theirs_in_a_stack() -> None:
    shared = [*SMALL, "optim=sgd", "optim.groups={head: {lr: constant}}", "scheduler=cosine", "max_steps=6"]
    cfgs = [plain(mltricks.compose([*shared, f"optim.lr={lr}"])) for lr in (0.1, 0.02)]
    for result, alone in zip(train_stacked(cfgs), build_all(cfgs), strict=True):
        assert ("optim", "groups.head.lr") not in alone.hypers.drives
        advance(alone, 6)
        for name, p in alone.state["params"].items():
            torch.testing.assert_close(result.state["params"][name], p, rtol=1e-4, atol=2e-5)
