"""``mltricks.load``: the same metrics as the run's test, inputs in any form, and no code from the file is run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import EXACT, TINY, command_environment
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import mltricks
from mltricks.build import build
from mltricks.checkpoint import digest
from mltricks.config.compose import plain
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.evaluate import evaluate
from mltricks.inputs.image_files import decode_image, from_images
from mltricks.inputs.vector import Vector
from mltricks.predictor import Predictor, without_first_weights
from mltricks.saving import predict_with, predicting_weights, save_weights
from mltricks.summary import Summary
from mltricks.technique import Aux, Ctx, Own, Params, PredFn, Technique
from mltricks.weights import load_weights

ROUNDING = 2**-23
"""Tolerance of a float32 mean: some devices divide by the count, others multiply by its inverse."""
LISTS = {
    "plain": (),
    "ema_tta": ("technique=[ema,tta]",),
    "surgery": ("technique=[dropout,stochastic_depth,accumulate]", "model=resnet9", "model.width=4"),
    "loss": ("technique=[simclr,label_smoothing,ema]",),
    "mlp_bf16": ("model=mlp", "precision=bf16"),
}


@pytest.fixture
def trained(train_digits: Callable[..., Summary], tmp_path: Path) -> tuple[Predictor, Path]:
    train_digits("epochs=1")
    return mltricks.load(tmp_path / "run"), tmp_path / "run"


def digits(cfg: dict[str, Any]) -> MemorySplit:
    from mltricks.construct import load_data

    return load_data(cfg, []).test


@pytest.mark.parametrize("stack", LISTS)
def test_predictions_equal_those_of_the_final_test(
    train_digits: Callable[..., Summary], tmp_path: Path, stack: str
) -> None:
    summary = train_digits(*LISTS[stack], "epochs=1")
    model = mltricks.load(tmp_path / "run")
    test = digits(model.cfg)
    probabilities = model.predict(test.x)
    hits = (probabilities.argmax(1) == test.y).float().mean()
    assert float(hits) == pytest.approx(summary.test["accuracy"], rel=ROUNDING)
    loss = torch.nn.functional.nll_loss(probabilities.double().log(), test.y)
    assert float(loss) == pytest.approx(summary.test["loss"], rel=1e-5)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(test)))


def test_the_data_are_not_needed(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    """In another process, from the weights file alone, without network, data folder or run folder."""
    summary = train_digits("technique=ema")
    test = digits(load_weights(tmp_path / "run")[1]["config"])
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "run/checkpoints/best.safetensors", alone)
    np.save(alone / "x.npy", test.x.numpy())
    code = (
        "import sys, numpy, mltricks\n"
        "sys.modules['mltricks.data.digits'] = None\n"
        "model = mltricks.load('best.safetensors')\n"
        "print(model.classes, model.predict(numpy.load('x.npy')).argmax(1).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=alone, env=command_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = mltricks.load(tmp_path / "run").predict(test.x).argmax(1)
    assert done.stdout.strip() == f"{tuple('0123456789')} {expected.tolist()}"
    assert float((expected == test.y).float().mean()) == pytest.approx(summary.test["accuracy"], rel=ROUNDING)


def test_inputs_come_in_any_form(trained: tuple[Predictor, Path]) -> None:
    model, _ = trained
    x = digits(model.cfg).x[:5]
    expected = model.predict(x)
    arrays = x.numpy()
    forms = {
        "array": arrays,
        "channels first": arrays.transpose(0, 3, 1, 2),
        "no channel": arrays[..., 0],
        "int64": x.long(),
        "nested lists": arrays.tolist(),
        "PIL": [Image.fromarray(a[..., 0]) for a in arrays],
        "PIL, colour": [Image.fromarray(a[..., 0]).convert("RGB") for a in arrays],
    }
    for name, form in forms.items():
        assert torch.equal(model.predict(form), expected), name
    for one in (x[0], arrays[0, ..., 0], Image.fromarray(arrays[0, ..., 0])):
        torch.testing.assert_close(model.predict(one), expected[:1])
    torch.testing.assert_close(model.predict(x, batch_size=2), expected)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (
            torch.zeros(3, 9, 9, 1, dtype=torch.uint8),
            r"shape \(3, 9, 9, 1\).*\(N, 8, 8, 1\) or \(N, 1, 8, 8\) or \(N, 8, 8\)",
        ),
        (torch.zeros(3, 8, 8, 1), "torch.float32.*torch.uint8.*0 to 255, not scaled"),
        (torch.full((3, 8, 8, 1), 256), "256.*0 to 255"),
        (torch.zeros(0, 8, 8, 1, dtype=torch.uint8), "no inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(trained: tuple[Predictor, Path], x: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trained[0].predict(x)


def test_arrays_of_any_layout_and_integer_type(trained: tuple[Predictor, Path]) -> None:
    x = np.random.default_rng(0).integers(0, 100, (5, 8, 8, 1), dtype=np.uint8)
    expected = trained[0].predict(x)
    for same in (
        x.astype(np.int8),
        x.astype(np.uint16),
        x.astype(">i4"),
        x.astype(np.int64),
        [torch.tensor(i) for i in x],
    ):
        assert torch.equal(trained[0].predict(same), expected)
    assert torch.equal(trained[0].predict(x[::-1]), expected.flip(0))
    with pytest.raises(ValueError, match=r"complex64; this model takes raw torch\.uint8"):
        trained[0].predict(x.astype(np.complex64))
    with pytest.raises(ValueError, match="inputs go from 300 to 300; images are whole numbers of 0 to 255"):
        trained[0].predict(np.full((5, 8, 8, 1), 300, np.uint16))


def test_pictures_are_scaled_and_cropped_as_those_of_a_folder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for size in ((40, 30), (30, 40), (17, 17), (16, 16), (64, 20)):
        image = Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8))
        image.save(tmp_path / "image.png")
        assert torch.equal(from_images(image, (3, 16, 16))[0], decode_image(str(tmp_path / "image.png"), 16)), size


def test_the_callers_random_state_is_unchanged(trained: tuple[Predictor, Path]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mltricks.load(trained[1])
    assert torch.equal(torch.rand(3), expected)


class Net(nn.Module):
    """A user's model with a lazy layer."""

    def __init__(self, num_outputs: int):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_a_file_does_not_choose_the_code_that_is_run(tmp_path: Path) -> None:
    own = ["model=custom", f"model._target_={__name__}.Net", f"allow_modules=[{__name__}]"]
    common = [o for o in TINY if not o.startswith("model.")]
    summary = mltricks.train(mltricks.compose([*common, *own, "epochs=1"]), tmp_path / "run")
    with pytest.raises(ValueError, match=rf"names classes of {__name__}.*pass allow_modules=\['{__name__}'\]"):
        mltricks.load(tmp_path / "run")
    model = mltricks.load(tmp_path / "run", allow_modules=[__name__])
    test = digits(model.cfg)
    hits = (model.predict(test.x).argmax(1) == test.y).float().mean()
    assert float(hits) == pytest.approx(summary.test["accuracy"], rel=ROUNDING)


def save_signed(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write weights with a valid hash, as a forger can."""
    metadata = {key: value for key, value in metadata.items() if key != "digest"}
    save_file(tensors, path, {**metadata, "digest": digest({**metadata, "tensors": tensors})})


@pytest.mark.parametrize("target", ["os.system", "torch.hub.load", "mltricks.config.create.create", "torch.load"])
@pytest.mark.parametrize("where", ["model", "technique", "objective"])
def test_a_tampered_file_runs_nothing(trained: tuple[Predictor, Path], tmp_path: Path, target: str, where: str) -> None:
    path = trained[1] / "checkpoints/best.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    cfg = json.loads(metadata["config"])
    node = {"_target_": target, "command": f"touch {tmp_path}/harm"}
    cfg[where] = {"evil": node} if where == "technique" else node
    cfg["allow_modules"] = [target.partition(".")[0]]
    save_signed(tensors, tmp_path / "evil.safetensors", {**metadata, "config": json.dumps(cfg)})
    with pytest.raises(ValueError, match=r"names classes of|is refused"):
        mltricks.load(tmp_path / "evil.safetensors")
    assert not (tmp_path / "harm").exists()


def test_damaged_and_foreign_files_are_refused(trained: tuple[Predictor, Path], tmp_path: Path) -> None:
    path = trained[1] / "checkpoints/best.safetensors"
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    for name, said in (("cut", "damaged"), ("foreign", "not written by mltricks"), ("missing", "no weights")):
        with pytest.raises(ValueError, match=said):
            mltricks.load(tmp_path / f"{name}.safetensors")


@dataclass(frozen=True)
class Members(Technique):
    """Averages the predictions of the weights of three past steps and of the current ones, through its own head."""

    def setup(self, model: nn.Module, params: Params, batch: Any, seed: int) -> tuple[Params, Own]:
        kept = {str(i): {name: p.clone() for name, p in params.items()} for i in range(3)}
        return {**params, "members/scale": torch.ones(())}, {"kept": kept, "count": torch.zeros(())}

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        turn = ctx.step % 3
        kept = {
            i: {name: torch.where(turn == int(i), params[name], p) for name, p in member.items()}
            for i, member in ctx.own["kept"].items()
        }
        return params, {"kept": kept, "count": ctx.own["count"] + 1}

    def evaluate(self, inner: PredFn) -> PredFn:
        def predict(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
            members = [*ctx.own["kept"].values(), params]
            outputs = [inner(member, x, ctx) for member in members]
            return sum(outputs[1:], outputs[0]) * params["members/scale"] / ctx.own["count"]

        return predict


def test_an_ensemble_is_saved_completely(tmp_path: Path) -> None:
    """Weights of several steps, the technique's own tensors and a trained head are saved and restored."""
    cfg = plain(mltricks.compose([*TINY, "technique=ema", f"allow_modules=[{__name__}]"]))
    cfg["technique"]["members"] = {"_target_": f"{__name__}.Members"}
    run = build(cfg)
    for step, batch in zip(range(5), run.source.stream(0), strict=False):
        run.state, _ = run.step(run.state, batch, run.hypers.at(step))
    expected = evaluate(run.predict, run.objective, run.state, run.data.test, 100)
    save_weights(tmp_path / "best.safetensors", run, *predicting_weights(run, run.state))
    weights, about = load_weights(tmp_path / "best.safetensors")
    run.state = None  # type: ignore[assignment]
    assert evaluate(predict_with(run, weights, about["own"]), run.objective, {}, run.data.test, 100) == expected
    model = mltricks.load(tmp_path / "best.safetensors", allow_modules=[__name__])
    assert evaluate(lambda _, x: model.forward(x), model.objective, {}, run.data.test, 100) == expected


def test_one_set_of_weights_is_stored_once(
    trained: tuple[Predictor, Path], train_digits: Callable[..., Summary], tmp_path: Path
) -> None:
    train_digits("technique=[ema,tta]", folder=tmp_path / "averaged")
    plain_names, averaged = (set(load_weights(folder)[0]) for folder in (trained[1], tmp_path / "averaged"))
    assert plain_names == averaged
    assert all(name.startswith(("params.", "buffers.")) or name in ("input.mean", "input.std") for name in averaged)


def values(seed: int = 0) -> DataSplits:
    """A regression on three features, for ``data=custom``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 3, generator=generator) * 5 + 2
    y = x @ torch.tensor([1.0, -2.0, 0.5])
    mean, std = x.mean(0), x.std(0)
    info = Info(Vector((3,), mean, std), "values", 1)
    parts = [MemorySplit(x[i::3], y[i::3]) for i in range(3)]
    return DataSplits(*parts, info=info)


def test_vectors_and_values(tmp_path: Path) -> None:
    own = [
        "data=custom",
        f"data._target_={__name__}.values",
        f"allow_modules=[{__name__}]",
        "objective=regress",
        "model=mlp",
        *EXACT,
    ]
    summary = mltricks.train(mltricks.compose([*own, "epochs=2", "plots=true", "progress=none"]), tmp_path / "run")
    model = mltricks.load(tmp_path / "run")
    test = values().test
    predicted = model.predict(test.x.double().numpy())
    assert predicted.shape == (len(test), 1)
    assert float((predicted[:, 0] - test.y).square().mean()) == pytest.approx(summary.test["loss"], rel=1e-6)
    assert (tmp_path / "run/plots/predictions.png").is_file()
    with pytest.raises(ValueError, match=r"shape \(2, 4\).*\(N, 3\)"):
        model.predict(torch.zeros(2, 4))
    for value in (float("nan"), float("inf"), 1e300):
        with pytest.raises(ValueError, match=r"inputs are NaN, infinite, or too large for torch\.float32"):
            model.predict(torch.full((2, 3), value, dtype=torch.float64))
    for words in (np.array([["a", "b", "c"]]), [["a", "b", "c"]], None):
        with pytest.raises(ValueError, match="that holds no numbers"):
            model.predict(words)


def test_tokens(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question: " * 40)
    options = [
        "data=text",
        f"data.path={tmp_path}/text.txt",
        "data.length=8",
        "objective=next_token",
        "model=transformer",
    ]
    mltricks.train(mltricks.compose([*options, "epochs=1", "plots=true", "progress=none"]), tmp_path / "run")
    model = mltricks.load(tmp_path / "run")
    tokens = torch.tensor([model.classes.index(c) for c in "to be or"])
    assert model.predict(tokens).shape == (1, 8, len(model.classes))
    assert (tmp_path / "run/plots/loss_by_position.png").is_file()
    with pytest.raises(ValueError, match="tokens are 0 to"):
        model.predict(torch.full((1, 8), 99))


def test_a_saved_model_reads_no_other_weights() -> None:
    node = {"name": "resnet18", "pretrained": True, "arguments": {"checkpoint_path": "evil.pt", "drop_rate": 0.1}}
    assert without_first_weights(node) == {"name": "resnet18", "pretrained": False, "arguments": {"drop_rate": 0.1}}
