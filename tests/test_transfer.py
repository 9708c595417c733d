"""From one task to another: weights of other runs and of files, digits by classes, and the recorded experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from contract import make
from safetensors.torch import save_file

from mltricks.data.digits import of_classes, read_digits
from mltricks.models.timm import create_timm
from mltricks.models.torchvision import create_torchvision


def test_digits_of_some_classes_are_those_of_all() -> None:
    (x, y), _ = read_digits()
    kept, labels = of_classes(x, y, [7, 3])
    assert torch.equal(kept, x[(y == 3) | (y == 7)])
    assert torch.equal(torch.tensor([7, 3])[labels], y[(y == 3) | (y == 7)])
    data = make("data=digits_5_9").data
    assert data.info.classes == ("5", "6", "7", "8", "9")
    assert set(data.test.labels.tolist()) == set(range(5))


@pytest.mark.parametrize("classes", [[3], [3, 3], [9, 10]])
def test_wrong_classes_are_refused(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"data\.classes=.* two or more different digits"):
        make(f"data.classes={classes}")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mltricks

    folder = tmp_path_factory.mktemp("earlier") / "run"
    small = ["data=digits_0_4", "model=resnet9", "model.width=2", "max_steps=2", "plots=false", "progress=none"]
    mltricks.train(mltricks.compose([*small, "model.norm=batch"]), folder)
    return folder


def test_all_but_the_last_layer_comes_from_a_run_with_other_classes(earlier: Path) -> None:
    start = ["model=resnet9", "model.width=2", "init=checkpoint", f"init.checkpoint={earlier}"]
    with pytest.raises(
        ValueError, match=r"head\.weight has shape \(5, 16\) .* init\.exclude=last_layer where the classes"
    ):
        make(*start)
    run, fresh = make(*start, "init.exclude=last_layer"), make("model=resnet9", "model.width=2")
    from mltricks.inits.checkpoint import stored

    theirs = stored(earlier)
    now = {**run.state["params"], **run.state["buffers"]}
    assert all(torch.equal(now[name], theirs[name]) for name in theirs if name != "head.weight")
    assert torch.equal(now["head.weight"], fresh.state["params"]["head.weight"])


def saved(model: torch.nn.Module, path: Path) -> Path:
    state = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in model.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_weights_in_a_file_are_all_but_the_last_layer(library: str, suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18") if library == "timm" else torchvision.models.resnet18()
    path = saved(theirs, tmp_path / f"weights{suffix}")

    def create(channels: int, classes: int, weights: Any) -> dict[str, torch.Tensor]:
        shape = (channels, 32, 32)
        if library == "timm":
            return create_timm(shape, classes, "resnet18", weights, None, {}).state_dict()
        return create_torchvision(shape, classes, "resnet18", {}, weights, "imagenet").state_dict()

    from mltricks.models.first_weights import read_state

    state = read_state(str(path))
    for classes in (7, 1000):
        mine = create(3, classes, str(path))
        assert mine["fc.weight"].shape == (classes, 512)
        assert not torch.equal(mine["fc.weight"][:7], state["fc.weight"][:7])
        assert all(torch.equal(mine[name], state[name]) for name in state if not name.startswith("fc."))
    grey = create(1, 7, str(path))["conv1.weight"]
    torch.testing.assert_close(grey, state["conv1.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("model", ["timm", "torchvision"])
def test_files_without_the_weights_of_this_model_are_refused(model: str, tmp_path: Path) -> None:
    other = saved(torchvision.models.squeezenet1_1(), tmp_path / "other.pth")
    broken, words = tmp_path / "broken.pth", tmp_path / "words.pth"
    broken.write_bytes(b"no weights")
    torch.save({"epoch": 3}, words)
    for path, message in (
        (other, "is of another model: it lacks"),
        (broken, "cannot be read"),
        (words, "holds no tensors by name"),
        (tmp_path / "none.pth", "there is no such file"),
    ):
        with pytest.raises(ValueError, match=rf"model\.pretrained={path}.* ?{message}"):
            make(f"model={model}", "model.name=resnet18", f"model.pretrained={path}")
    with pytest.raises(ValueError, match=r"model\.pretrained=3 must be true or false or a text"):
        make(f"model={model}", "model.pretrained=3")
