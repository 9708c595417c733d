"""Progressive dropout, DropBlock, penalties on activations, weight drop, R-Drop and weight decay against oracles."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bare import context, images, params_of, sgd, small_net, train
from contract import advance, make
from torch import Tensor, nn

from mltricks.objectives.classify import Classify
from mltricks.step import gradient
from mltricks.technique import Aux
from mltricks.techniques.activation_reg import ActivationReg
from mltricks.techniques.dropblock import RATE, Dropblock, cut_blocks, drop_block
from mltricks.techniques.dropout import Dropout
from mltricks.techniques.r_drop import RDrop, symmetric_divergence
from mltricks.techniques.temporal_activation_reg import TemporalActivationReg
from mltricks.techniques.weight_decay import WeightDecay
from mltricks.techniques.weight_drop import WeightDrop, recurrent_weights


class Rows(nn.Module):
    """A recurrent layer over the rows of an image, and a head on the last one."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = kind(8, 6, **settings)
        self.head = nn.Linear(6 * (2 if self.rnn.bidirectional else 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0] if self.rnn.batch_first else x[:, 0].transpose(0, 1)
        out = self.rnn(rows)[0]
        return self.head(out[:, -1] if self.rnn.batch_first else out[-1])


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_progressive_dropout_has_the_sources_rate(engine: str) -> None:
    run = make("regularizer=progressive_dropout", f"engine={engine}", "max_steps=10")
    for step in (0, 1, 9):
        advance(run, 1, start=step)
        theta = (1 - 0.5) * math.exp(-10 * step / 10) + 0.5  # the source's probability to keep an element
        assert float(run.state["buffers"]["head.progressive_dropout_p"]) == pytest.approx(1 - theta, abs=1e-6)


def test_both_dropouts_on_one_layer_have_rates_of_their_own() -> None:
    run = make("technique=dropout+progressive_dropout", "technique.dropout.p=0.3")
    advance(run, 1)
    rates = {name: float(b) for name, b in run.state["buffers"].items() if name.endswith("dropout_p")}
    assert rates == pytest.approx({"head.dropout_p": 0.3, "head.progressive_dropout_p": 0.0})


@pytest.mark.parametrize(("side", "size"), [(3, 8), (1, 5), (5, 5), (7, 9)])
def test_blocks_equal_torchvisions_for_the_same_draws(side: int, size: int) -> None:
    from torchvision.ops import drop_block2d

    torch.manual_seed(0)
    x = torch.randn(4, 3, size, size)
    p, free = 0.3, size - side + 1
    gamma = p * size * size / (side**2 * free**2)
    torch.manual_seed(1)
    theirs = drop_block2d(x, p, side)
    torch.manual_seed(1)
    corners = torch.empty(4, 3, free, free).bernoulli_(gamma)
    torch.testing.assert_close(cut_blocks(x, corners, side), theirs)


def test_the_dropped_share_is_a_little_below_p_and_the_mean_is_kept() -> None:
    torch.manual_seed(0)
    x = torch.ones(50, 8, 14, 14)
    for side in (3, 4):  # torchvision refuses even sides
        out = drop_block(x, torch.tensor(0.1), side)
        assert 0.085 < float((out == 0).float().mean()) < 0.1
        assert float(out.mean()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(drop_block(x, torch.tensor(0.0), 7), x)


def test_dropblock_is_behind_the_norms_of_the_last_two_stages() -> None:
    run = make("regularizer=dropblock", "model=resnet9")
    names = {n.removesuffix(f".{RATE}") for n in run.state["buffers"] if n.endswith(RATE)}
    modules = dict(run.model.module.named_modules())
    assert names
    assert all(isinstance(modules[name], nn.BatchNorm2d) for name in names)
    assert all(name.startswith("layer") for name in names)
    advance(run, 1)
    steps = run.total_steps
    run.state, _ = run.step(run.state, next(run.source.stream(0)), run.hypers.at(steps // 2))
    assert float(run.state["buffers"][f"{sorted(names)[0]}.{RATE}"]) == pytest.approx(0.05, abs=1e-3)


def test_dropblock_works_on_torchvisions_models_and_needs_feature_maps() -> None:
    from torchvision.models import resnet18

    module, x = resnet18(num_classes=4), torch.randn(2, 3, 64, 64)
    before = {name: b.clone() for name, b in module.named_buffers()}
    Dropblock(p=0.1, grow=False, block_size=3, layers=None).setup(module, {}, {"x": x}, 0)
    chosen = {n.removesuffix(f".{RATE}") for n, _ in module.named_buffers() if n.endswith(RATE)}
    assert {"layer3.0.bn1", "layer4.1.bn2", "layer4.0.downsample.1"} <= chosen
    assert not any(name.startswith(("layer1", "layer2", "bn1")) for name in chosen)
    assert all(torch.equal(b, before[name]) for name, b in module.named_buffers() if name in before)
    with pytest.raises(ValueError, match=r"has no module whose output is one \(B, C, H, W\)"):
        make("technique=dropblock", "model=mlp")
    with pytest.raises(ValueError, match=r"no layer is called head\. Modules with feature maps: features"):
        make("technique=dropblock", "technique.dropblock.layers=[head]")


def test_activation_reg_has_the_closed_form_and_sees_dropped_activations() -> None:
    module, batch = small_net(), images(8)
    plain, _ = gradient(Classify())(params_of(module), batch, context(module))
    grads, aux = gradient(ActivationReg(2.0, None).loss(Classify()))(params_of(module), batch, context(module))
    leaves = {name: p.requires_grad_() for name, p in params_of(module).items()}
    hidden = torch.func.functional_call(module[:5], {n: p for n, p in leaves.items() if n[0] < "5"}, (batch["x"],))
    penalty = 2.0 * hidden.square().mean()
    expected = torch.autograd.grad(penalty, list(leaves.values()), materialize_grads=True)
    for (name, g), extra in zip(grads.items(), expected, strict=True):
        torch.testing.assert_close(g, plain[name] + extra, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(aux["metrics"]["penalty"], penalty.detach())
    Dropout(p=0.5, layers=None).setup(module, {}, batch, 0)
    torch.manual_seed(0)
    dropped = ActivationReg(2.0, None).loss(Classify())(params_of(module), batch, context(module))[1]["metrics"][
        "penalty"
    ]
    torch.manual_seed(0)
    masked = hidden * (torch.rand(hidden.shape) < 0.5) / 0.5
    torch.testing.assert_close(dropped, 2.0 * masked.square().mean())


def test_activation_reg_takes_outputs_of_named_modules_and_refuses_unused_ones() -> None:
    module, batch = small_net(), images(8)
    one = ActivationReg(1.0, ["1", "4"])
    one.setup(module, {}, batch, 0)
    _, aux = one.loss(Classify())(params_of(module), batch, context(module))
    first, second = module[:2](batch["x"]), module[:5](batch["x"])
    expected = (first.square().mean() + second.square().mean()) / 2
    torch.testing.assert_close(aux["metrics"]["penalty"].detach(), expected.detach())
    module.spare = nn.Linear(2, 2)
    module.forward = lambda x: module[:6](x)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="needs the output of spare, which the model does not call"):
        ActivationReg(1.0, ["spare"]).setup(module, {}, batch, 0)


@pytest.mark.parametrize("batch_first", [True, False])
def test_temporal_activation_reg_is_on_the_raw_output_of_the_recurrent_layer(batch_first: bool) -> None:
    module, batch = Rows(nn.LSTM, batch_first=batch_first), images(8)
    technique = TemporalActivationReg(0.7, None)
    technique.setup(module, {}, batch, 0)
    _, aux = technique.loss(Classify())(params_of(module), batch, context(module))
    rows = batch["x"][:, 0] if batch_first else batch["x"][:, 0].transpose(0, 1)
    out = module.rnn(rows)[0]
    changes = out[:, 1:] - out[:, :-1] if batch_first else out[1:] - out[:-1]
    torch.testing.assert_close(aux["metrics"]["penalty"].detach(), 0.7 * changes.square().mean().detach())


def test_temporal_activation_reg_on_a_transformer_and_without_time() -> None:
    module = nn.Sequential(nn.Flatten(0, 0), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4))
    technique = TemporalActivationReg(1.0, None)
    technique.setup(module, {}, {"x": torch.randn(2, 7, 8)}, 0)
    assert technique.chosen == {"2": (1, 1)}
    with pytest.raises(ValueError, match=r"needs activations with an axis of time.*Type technique=activation_reg"):
        make("technique=temporal_activation_reg", "model=mlp")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_weight_drop_masks_the_hidden_to_hidden_weights(kind: type[nn.RNNBase]) -> None:
    module, batch = Rows(kind, batch_first=True, num_layers=2, bidirectional=True), images(6)
    technique, params = WeightDrop(p=0.4, layers=None), params_of(module)
    names = [f"rnn.weight_hh_l{k}{way}" for k in (0, 1) for way in ("", "_reverse")]
    assert recurrent_weights(module, None) == names
    torch.manual_seed(3)
    grads, aux = gradient(technique.loss(Classify()))(params, batch, context(module))
    torch.manual_seed(3)
    masks = {name: (torch.rand(params[name].shape) < 0.6) / 0.6 for name in names}
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    seen = {name: p * masks.get(name, 1.0) for name, p in leaves.items()}
    loss = F.cross_entropy(torch.func.functional_call(module, seen, (batch["x"],)), batch["y"])
    loss.backward()
    torch.testing.assert_close(aux["metrics"]["loss"], loss.detach())
    for name, leaf in leaves.items():
        torch.testing.assert_close(grads[name], leaf.grad, rtol=1e-5, atol=1e-7)


def test_weight_drop_is_refused_without_recurrent_layers() -> None:
    with pytest.raises(ValueError, match=r"ConvNet has no nn\.LSTM.*Type technique=dropconnect"):
        make("technique=weight_drop")
    with pytest.raises(ValueError, match=r"no layer is called x\. Recurrent layers: rnn"):
        recurrent_weights(Rows(nn.GRU), ["x"])


def test_the_divergence_of_r_drop_is_that_of_torch() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 5, dtype=torch.float64).unbind()
    both = [F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean") for x, y in ((a, b), (b, a))]
    torch.testing.assert_close(symmetric_divergence(a, b), sum(both) / 2)  # type: ignore[arg-type]
    assert float(symmetric_divergence(a, a)) == 0


def test_r_drop_is_the_mean_of_two_passes_and_their_divergence() -> None:
    module, batch = small_net(), images(8)
    Dropout(p=0.5, layers=None).setup(module, {}, batch, 0)

    def loss(alpha: float) -> tuple[Tensor, Aux]:
        torch.manual_seed(0)
        return RDrop(alpha).loss(Classify())(params_of(module), batch, context(module))

    torch.manual_seed(0)
    passes = [Classify()(params_of(module), batch, context(module))[0] for _ in range(2)]
    torch.testing.assert_close(loss(0.0)[0], sum(passes) / 2)  # type: ignore[arg-type]
    value, aux = loss(3.0)
    torch.testing.assert_close(value, (sum(passes) + 3.0 * aux["metrics"]["r_drop_kl"]) / 2)
    assert float(aux["metrics"]["r_drop_kl"]) > 0


def test_r_drop_keeps_the_statistics_of_the_first_pass() -> None:
    module, batch = small_net(norm=True), images(8)
    once, twice = context(module), context(module)
    Classify()(params_of(module), batch, once)
    RDrop(1.0).loss(Classify())(params_of(module), batch, twice)
    assert all(torch.equal(once.buffers[name], twice.buffers[name]) for name in once.buffers)


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (["technique=r_drop"], True),
        (["technique=r_drop+dropout"], False),
        (["technique=dropout+r_drop"], False),
        (["technique=r_drop+dropout", "technique.dropout.p=0"], True),
        (["technique=r_drop+dropconnect"], False),
        (["technique=dropconnect+r_drop"], True),
        (["technique=r_drop+progressive_dropout"], False),
        (["regularizer=r_drop"], False),
    ],
)
def test_r_drop_needs_draws_that_differ(overrides: list[str], refused: bool) -> None:
    if refused:
        with pytest.raises(ValueError, match="technique=r_drop compares two passes, which are equal here"):
            make(*overrides)
    else:
        make(*overrides)


def test_weight_decay_equals_torchs_where_the_strength_is_the_rate_times_its_own() -> None:
    batches = [images(16, seed) for seed in range(5)]
    decay = WeightDecay(strength=0.1 * 0.3, layer_decay=1.0, no_decay=["norm_and_bias"])
    state, _ = train(small_net(), batches, sgd(0.1, momentum=0.9), weight_decay=decay)[-1]
    module = small_net()
    weights, rest = ([p for p in module.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
    # decoupled SGD: torch's own decay is coupled, so the weights shrink by hand, from their values before the update
    optimizer = torch.optim.SGD([*weights, *rest], lr=0.1, momentum=0.9)
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(module(batch["x"]), batch["y"]).backward()
        before = [p.detach().clone() for p in weights]
        optimizer.step()
        with torch.no_grad():
            for p, old in zip(weights, before, strict=True):
                p -= 0.03 * old
    for name, p in module.named_parameters():
        torch.testing.assert_close(state["params"][name], p.detach(), rtol=1e-5, atol=1e-6)


def test_weight_decay_equals_that_of_torchs_adamw() -> None:
    lr, own = 3e-3, 0.1
    run = make("optim=adamw", f"optim.lr={lr}", f"optim.weight_decay={own}", "technique=none", "optim.no_decay=[]")
    theirs = [f"technique.weight_decay.strength={lr * own}", "technique.weight_decay.no_decay=[]"]
    ours = make("optim=adamw", f"optim.lr={lr}", "optim.weight_decay=0", "technique=weight_decay", *theirs)
    advance(run, 5)
    advance(ours, 5)
    for name, p in run.state["params"].items():
        torch.testing.assert_close(ours.state["params"][name], p, rtol=1e-5, atol=1e-6)


def test_weight_decay_is_weaker_in_lower_layers_and_spares_skipped_steps() -> None:
    module, batch = small_net(), images(4)
    decay = WeightDecay(strength=0.1, layer_decay=0.5, no_decay=["*.bias"])
    params = params_of(module)
    _, own = decay.setup(module, params, batch, 0)
    assert {name: float(k) for name, k in own.items()} == {"0.weight": 2.0, "3.weight": 1.0, "5.weight": 0.0}
    ctx = context(module, {"weight_decay": own}).scope("weight_decay")
    new, _ = decay.after(params, ctx, {"previous": params})
    for name, factor in (("0.weight", 0.975), ("3.weight", 0.95), ("5.weight", 0.9), ("0.bias", 1.0)):
        torch.testing.assert_close(new[name], params[name] * factor)
    same, _ = decay.after(params, ctx, {"previous": params, "finite": torch.tensor(False)})
    assert all(torch.equal(same[name], params[name]) for name in params)
    with pytest.raises(ValueError, match="spares all parameters"):
        WeightDecay(0.1, 1.0, ["*"]).setup(module, params, batch, 0)
    with pytest.raises(ValueError, match="has head_, which matches no parameter"):
        WeightDecay(0.1, 1.0, ["head_"]).setup(module, params, batch, 0)


@pytest.mark.parametrize("tokens", [True, False])
def test_the_lstm_predicts_at_every_token_or_after_the_last_row(tokens: bool) -> None:
    from mltricks.models.lstm import Lstm

    shape = (7,) if tokens else (3, 8, 8)
    model = Lstm(shape, 5, width=6, depth=2, dropout=0.1)
    x = torch.randint(5, (2, 7)) if tokens else torch.randn(2, 3, 8, 8)
    assert model(x).shape == ((2, 7, 5) if tokens else (2, 5))
    with pytest.raises(ValueError, match="takes tokens or images"):
        Lstm((3, 4), 5, width=6, depth=1, dropout=0.0)
    with pytest.raises(ValueError, match="the data are vectors"):
        Lstm((4,), 5, width=6, depth=1, dropout=0.0)(torch.randn(2, 4))


def test_a_users_own_recurrent_layer_is_traced() -> None:
    """The fused kernel of the CPU is not replayable, so the graph has basic operations."""
    overrides = ["model=lstm", "model.width=8", "model.depth=2", "optim=sgd", "optim.lr=0.1"]
    eager, traced = make(*overrides), make(*overrides, "engine=traced")
    assert advance(eager, 4) == pytest.approx(advance(traced, 4), rel=1e-5)
