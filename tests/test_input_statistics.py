"""Inputs normalised with the statistics of another run or of ImageNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain

SMALL = ["model.width=4", "epochs=1", "plots=false", "progress=none"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits 0 to 4."""
    folder = tmp_path_factory.mktemp("run") / "first"
    mltricks.train(mltricks.compose([*SMALL, "data=digits_0_4"]), folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with coloured images of noise in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "noise.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n\n"
        "def photos():\n    g = torch.Generator().manual_seed(0)\n"
        "    x = torch.randint(0, 256, (60, 8, 8, 3), generator=g, dtype=torch.uint8)\n"
        "    return TensorDataset(x, torch.arange(60) % 2)\n"
    )
    return folder


def built(*overrides: str) -> Run:
    return build(plain(mltricks.compose([*SMALL, *overrides])))


def test_a_run_sees_inputs_as_the_other_run_saw_them(first: Path, tmp_path: Path) -> None:
    plainly, run = built("data=digits_5_9"), built("data=digits_5_9", f"data.statistics={first}")
    theirs = mltricks.load(first).info.input
    x = next(run.batches())["x"]
    assert torch.equal(run.data.info.normalize(x), theirs.normalize(x))
    assert not torch.equal(run.data.info.normalize(x), plainly.data.info.normalize(x))
    assert torch.equal(next(plainly.batches())["x"], x), "the samples are the same"
    assert f"inputs are normalised with the statistics of {first}" in run.messages
    mltricks.train(mltricks.compose([*SMALL, "data=digits_5_9", f"data.statistics={first}"]), tmp_path / "second")
    kept = mltricks.load(tmp_path / "second").info.input
    assert torch.equal(kept.normalize(x), theirs.normalize(x)), "predictions use them too"


def test_imagenet_is_what_torchvision_applies(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(photos)
    typed = ["data=custom", "data._target_=noise.photos", "allow_modules=[noise]", "model=convnet", "batch_size=8"]
    run = built(*typed, "data.statistics=imagenet")
    x = next(run.batches())["x"]
    normalize = v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    torch.testing.assert_close(run.data.info.normalize(x), normalize(x.float() / 255), rtol=1e-5, atol=1e-5)


def test_statistics_follow_the_value_of_white(first: Path) -> None:
    run = built("data=digits", f"data.statistics={first}")
    mine, theirs = run.data.info.input, mltricks.load(first).info.input
    assert mine.white == theirs.white == 16  # type: ignore[attr-defined]
    assert torch.equal(mine.mean, theirs.mean)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=digits", "data.statistics=imagenet"], r"data\.statistics=imagenet has 3 means .* need \(1, 1, 1\)"),
        (["data=digits", "data.statistics=nowhere"], r"nowhere"),
    ],
)
def test_other_channels_and_missing_runs_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        built(*overrides)


def test_texts_have_no_statistics() -> None:
    with pytest.raises(ValueError, match=r"data\.statistics=imagenet: tokens inputs have no statistics here"):
        built("data=text", "model=transformer", "data.statistics=imagenet", "model.width=8")
