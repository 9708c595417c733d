"""Objects from Python: a module and tensors, what the folder says of them, and the trained model in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from conftest import EXACT, Outcome
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mltricks
from mltricks.config.compose import plain
from mltricks.data.given import splits_of
from mltricks.models.mlp import MLP

QUIET = ["progress=none", "plots=false", "device=cpu", "optim.lr=0.01", *EXACT]


class Net(nn.Module):
    """A module as a user writes it; it keeps the inputs it saw."""

    def __init__(self, num_outputs: int = 3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def points(size: int, seed: int, values: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 8, generator=generator)
    return x, x[:, 0] * 2 + 1 if values else (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def parts(values: bool = False) -> tuple[Any, ...]:
    return tuple(points(size, seed, values) for size, seed in ((160, 0), (64, 1), (64, 2)))


def net(seed: int = 0, num_outputs: int = 3) -> Net:
    torch.manual_seed(seed)
    return Net(num_outputs)


def composed(*overrides: str) -> Any:
    return mltricks.compose([*QUIET, *overrides])


def test_a_module_and_tensors_train_and_stay_as_they_are(tmp_path: Path) -> None:
    module, data = net(), parts()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    kept = data[0][0].clone()
    result = mltricks.train(composed("epochs=20"), tmp_path, model=module, data=data)
    assert result.status == "completed"
    assert result.test["accuracy"] > 0.6
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(kept, data[0][0])
    trained = result.module().network
    assert isinstance(trained, Net)
    assert not torch.equal(trained.layers[0].weight, module.layers[0].weight)


def test_the_first_step_is_that_of_plain_torch(tmp_path: Path) -> None:
    """All samples in one batch, so that their order does not matter; floats reach the module unchanged."""
    module, (x, y) = net(num_outputs=1), points(64, 0, values=True)
    data = ((x, y),) * 3
    overrides = ("epochs=1", "batch_size=64", "optim=sgd", "optim.momentum=0", "optim.weight_decay=0")
    result = mltricks.train(composed(*overrides), tmp_path, model=module, data=data)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    loss = nn.functional.mse_loss(module(x)[:, 0], y)
    loss.backward()
    optimizer.step()
    assert result.train["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, tensor in result.module().network.state_dict().items():
        torch.testing.assert_close(tensor, module.state_dict()[name])


def test_a_resumed_run_of_the_same_objects_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = mltricks.train(composed("epochs=4", "technique=ema"), tmp_path / "a", model=net(), data=parts())
    mltricks.train(composed("epochs=2", "technique=ema"), tmp_path / "b", model=net(), data=parts())
    longer = mltricks.train(composed("epochs=4", "technique=ema"), tmp_path / "b", True, model=net(5), data=parts())
    assert longer.val == whole.val
    mine, theirs = longer.module().state_dict(), whole.module().state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_resumed_run_needs_the_same_objects(tmp_path: Path) -> None:
    mltricks.train(composed("epochs=1"), tmp_path, model=net(), data=parts())
    longer = composed("epochs=2")
    with pytest.raises(ValueError, match=r"model\.name=torch\.nn\.modules\.linear\.Linear"):
        mltricks.train(longer, tmp_path, True, model=nn.Linear(8, 3), data=parts())
    with pytest.raises(ValueError, match=r"the model of the run .* resume=True, model=model"):
        mltricks.train(longer, tmp_path, True, data=parts())
    others = (points(160, 9), *parts()[1:])
    with pytest.raises(ValueError, match="data have changed"):
        mltricks.train(longer, tmp_path, True, model=net(), data=others)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["resume={folder}", "epochs=2"], "objects that a Python program gave"),
        (["job=evaluate", "checkpoint={folder}"], "mltricks.load(DIR, model=module)"),
    ],
)
def test_a_command_says_that_it_cannot_make_the_objects(
    overrides: list[str], said: str, tmp_path: Path, run_cli: Callable[..., Outcome]
) -> None:
    mltricks.train(composed("epochs=1"), tmp_path / "run", model=net(), data=parts())
    done = run_cli(*(override.format(folder=tmp_path / "run") for override in overrides))
    assert done.status == 1
    assert said in done.err
    assert "Traceback" not in done.err


def test_load_puts_the_weights_into_a_copy_of_the_module(tmp_path: Path) -> None:
    result = mltricks.train(composed("epochs=1"), tmp_path, model=net(), data=parts())
    other, x = net(7), points(20, 3)[0]
    before = other.layers[0].weight.clone()
    assert torch.equal(mltricks.load(tmp_path, model=other).predict(x), result.load().predict(x))
    assert torch.equal(before, other.layers[0].weight)
    with pytest.raises(ValueError, match="do not fit Linear"):
        mltricks.load(tmp_path, model=nn.Linear(8, 3))


def test_parameters_without_a_gradient_stay(tmp_path: Path) -> None:
    module = net()
    module.layers[0].requires_grad_(False)
    result = mltricks.train(composed("epochs=1"), tmp_path, model=module, data=parts())
    trained = result.module().network
    assert torch.equal(trained.layers[0].weight, module.layers[0].weight)
    assert not torch.equal(trained.layers[3].weight, module.layers[3].weight)
    with pytest.raises(ValueError, match="nothing to train"):
        mltricks.train(composed(), tmp_path / "none", model=module.requires_grad_(False), data=parts())


def test_objects_follow_their_targets(tmp_path: Path) -> None:
    result = mltricks.train(composed("epochs=1"), tmp_path, model=net(num_outputs=1), data=parts(values=True))
    assert "mae" in result.val
    assert "objective=regress: the targets are floats" in result.messages
    with pytest.raises(ValueError, match="objective=next_token does not fit"):
        mltricks.train(composed("objective=next_token"), tmp_path / "b", model=net(), data=parts())
    with pytest.raises(ValueError, match=r"the given Linear gives .* Give a module that returns this shape"):
        mltricks.train(composed(), tmp_path / "c", model=nn.Linear(8, 2), data=parts())
    with pytest.raises(ValueError, match=r"data\.limit=10 has no effect"):
        mltricks.train(composed("data.limit=10"), tmp_path / "d", data=parts())
    with pytest.raises(ValueError, match=r"model\.width=8 has no effect: the run trains the module"):
        mltricks.train(composed("model.width=8"), tmp_path / "e", model=net(), data=parts())
    with pytest.raises(ValueError, match=r"^model=mlp has no effect: .* or add model=convnet if an experiment"):
        mltricks.train(composed("model=mlp"), tmp_path / "f", model=net(), data=parts())
    without = {**plain(composed()), "model": None}
    assert mltricks.train(without, tmp_path / "g", model=net(), data=parts()).status == "completed"


@pytest.mark.parametrize("form", ["tensors", "arrays", "datasets", "pictures"])
def test_every_form_of_the_same_data_gives_the_same_splits(form: str) -> None:
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (12, 6, 5, 3), generator=generator, dtype=torch.uint8)
    y = torch.arange(12) % 3
    make: dict[str, Any] = {
        "tensors": lambda: (x.permute(0, 3, 1, 2), y),
        "arrays": lambda: (x.numpy(), y.numpy().astype(np.int32)),
        "datasets": lambda: TensorDataset(x, y),
        "pictures": lambda: (
            [Image.fromarray(one.numpy()) for one in x] and ([Image.fromarray(o.numpy()) for o in x], y)
        ),
    }
    splits = splits_of((make[form](),) * 3)
    batch = next(splits.train.batches([torch.arange(12)]))
    assert torch.equal(batch["x"], x.permute(0, 3, 1, 2))
    assert torch.equal(batch["y"], y)
    normalized = splits.info.normalize(batch["x"])
    torch.testing.assert_close(normalized.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.std((0, 2, 3), correction=0), torch.ones(3))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((1, 2), "data is 2 parts. Give three"),
        (torch.zeros(3), "data is a Tensor. Give three"),
        (((torch.zeros(3, 8), torch.zeros(2)),) * 3, "3 x and 2 y"),
        (((torch.zeros(3, 8, dtype=torch.int64), torch.zeros(3)),) * 3, "Allowed: floats"),
        (((torch.full((3, 8), torch.nan), torch.zeros(3)),) * 3, "NaN"),
        (((torch.zeros(3, 8), torch.zeros(3, dtype=torch.bool)),) * 3, "which are sets of labels. Give y.long()."),
        ((points(9, 0), (torch.zeros(9, 7), points(9, 0)[1]), points(9, 0)), "x of the validation data is (9, 7)"),
        (((torch.zeros(9, 8), torch.arange(9)[:, None] % 3),) * 3, "Give y.squeeze(1)"),
        (((torch.zeros(9, 8), torch.ones(9, 1, dtype=torch.bool)),) * 3, "Give y.squeeze(1).long()."),
        ((DataLoader(TensorDataset(*points(9, 0))),) * 3, "Give a pair (x, y), or a dataset with len. A DataLoader"),
        ((points(9, 0), (torch.zeros(2, 8), torch.tensor([0, 7])), points(9, 0)), "label 7 of validation sample 1"),
        (([1, 2, 3],) * 3, "reading (x, y) of sample 0 of the training data failed in builtins.list"),
    ],
)
def test_data_that_cannot_be_used_are_refused(data: Any, said: str) -> None:
    with pytest.raises(ValueError) as error:
        splits_of(data)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (["epochs=1"], r"cfg is a list\. Give the result of mltricks\.compose"),
        ({}, "no whole configuration"),
        (mltricks.compose(["show=true"]), r"show=True has no effect on mltricks\.train"),
        (mltricks.compose(["resume=a"]), r"mltricks\.train\(cfg, folder='a', resume=True\)"),
        (mltricks.compose(["checkpoint=a"]), r"mltricks\.load\('a'\)"),
    ],
)
def test_what_is_no_configuration_of_a_training_run_is_refused(cfg: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        mltricks.train(cfg, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_overrides_are_a_list() -> None:
    with pytest.raises(ValueError, match=r"Give a list: mltricks\.compose\(\['epochs=1'\]\)"):
        mltricks.compose("epochs=1")


def test_resuming_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run in it"):
        mltricks.train(composed(), tmp_path / "none", resume=True)
    assert not list(tmp_path.iterdir())


def test_a_class_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model is the class Net\. Give an object of it: model=Net\(\.\.\.\)"):
        mltricks.train(composed(), tmp_path, model=Net, data=parts())  # type: ignore[arg-type]


def test_the_history_is_a_table(tmp_path: Path) -> None:
    overrides = ("epochs=3", "scheduler=cosine", "log_every=2")
    result = mltricks.train(composed(*overrides), tmp_path, model=net(), data=parts())
    table = pandas.DataFrame(result.history)
    assert list(table["epoch"]) == [1, 2, 3]
    assert list(table["step"]) == [5, 10, 15]
    assert table["val/accuracy"].max() == result.val["accuracy"]
    assert table["train/loss"].iloc[-1] == result.train["loss"]
    assert table["lr"].is_monotonic_decreasing
    assert table["seconds"].is_monotonic_increasing
    assert result.report is None
    assert "val/accuracy" in repr(result)
    assert "\n" not in repr(result)


TECHNIQUES = ["ema", "tta", "ema,tta", "dropout", "stochastic_depth", "mixup"]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_module_predicts_as_the_run_does(technique: str, tmp_path: Path) -> None:
    model = "model=resnet9" if technique == "stochastic_depth" else "model=convnet"
    overrides = ("epochs=1", "data.limit=160", model, "model.width=4", f"technique=[{technique}]")
    mltricks.train(composed(*overrides), tmp_path)
    predictor = mltricks.load(tmp_path)
    x = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    module = predictor.module()
    assert not module.training
    with torch.no_grad():
        assert torch.equal(module(x), predictor.forward(predictor.prepare(x)))
        assert torch.equal(module(x).softmax(-1), predictor.predict(x))
        saved = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        expected = module(x)
        for tensor in module.state_dict().values():
            tensor.zero_()
        module.load_state_dict(saved)
        assert torch.equal(module(x), expected)


def test_the_network_loads_into_its_own_class(tmp_path: Path) -> None:
    """Plain torch from here on: the file knows nothing of mltricks."""
    mltricks.train(
        composed("epochs=1", "data.limit=160", "model=mlp", "model.width=16", "model.depth=1", "technique=ema"),
        tmp_path / "run",
    )
    module = mltricks.load(tmp_path / "run").module()
    torch.save(module.network.state_dict(), tmp_path / "weights.pt")
    network = MLP((1, 8, 8), 10, width=16, depth=1).eval()
    network.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(network(module.normalize(x)), module(x))


def test_a_module_goes_on_training_in_plain_torch(tmp_path: Path) -> None:
    result = mltricks.train(composed("epochs=1"), tmp_path, model=net(), data=parts())
    module, (x, y) = result.module().train(), parts()[0]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
