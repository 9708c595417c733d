"""A run folder is data, whoever sent it: nothing that it says makes a stranger's code run, and damage is seen."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mltricks
from mltricks import checkpoint
from mltricks.checkpoint import LAST, digest
from mltricks.config.create import HOMES, locate
from mltricks.config.options import conf_dir
from mltricks.resume import resumed_config
from mltricks.session import BEST
from mltricks.weights import load_weights

TINY = ["model=mlp", "model.width=4", "data.limit=64", "epochs=1", "plots=false", "progress=none", "device=cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "run"
    mltricks.train(mltricks.compose(TINY), folder)
    return folder


@pytest.fixture
def gift(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder from a stranger: its model is a job of ours that would import the package beside it."""
    (tmp_path / "gift").mkdir()
    (tmp_path / "gift/__init__.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w').close()\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with safe_open(trained / BEST, framework="pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["digest"]
    config = json.loads(metadata["config"])
    for name, model in (
        ("two", {"_target_": "gift.Net"}),
        (
            "best",
            {
                "_target_": "mltricks.jobs.evaluate",
                "cfg": {**config, "checkpoint": str(tmp_path / "run/checkpoints/two.safetensors"),
                        "allow_modules": ["gift"], "input": None},
                "folder": str(tmp_path), "overrides": [], "mode": "RUN",
            },
        ),
    ):  # fmt: skip
        about = {**metadata, "config": json.dumps({**config, "model": model, "allow_modules": ["gift"]})}
        path = tmp_path / f"run/checkpoints/{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, {**about, "digest": digest({**about, "tensors": tensors})})
    saved = checkpoint.load(trained / LAST)
    wicked = {**config, "model": json.loads(about["config"])["model"], "allow_modules": []}
    checkpoint.save(tmp_path / "run" / LAST, saved["state"], wicked)
    (tmp_path / "run/config.yaml").write_text(json.dumps(wicked))
    return tmp_path / "run"


def test_a_gift_is_not_unwrapped(gift: Path) -> None:
    with pytest.raises(ValueError, match=r"model\._target_=mltricks\.jobs\.evaluate is refused"):
        mltricks.load(gift)
    with pytest.raises(ValueError, match=r"is refused|names classes of gift"):
        mltricks.train(resumed_config(mltricks.compose([f"resume={gift}"]), []), gift, resume=True)
    teacher = [*TINY, "technique=distill", f"technique.distill.teacher={gift}"]
    with pytest.raises(ValueError, match="is refused"):
        mltricks.train(mltricks.compose(teacher), gift.parent / "student")
    assert not (gift.parent / "harm").exists()
    assert "gift" not in sys.modules


def public_callables() -> Iterator[str]:
    """Everything that can be called in a module of ours, by the name under which a configuration could give it."""
    for module in pkgutil.walk_packages(mltricks.__path__, "mltricks."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if callable(value) and not inspect.ismodule(value) and not name.startswith("__"):
                yield f"{module.name}.{name}"


def test_a_group_makes_its_own_classes_and_nothing_else() -> None:
    admitted: dict[str, list[str]] = {group: [] for group in HOMES}
    for target in public_callables():
        for group, names in admitted.items():
            try:
                locate(target, group, [])
            except ValueError:
                continue
            names.append(target)
    for group, names in admitted.items():
        if group != "job":
            assert all(inspect.isclass(locate(n, group, [])) or n.rpartition(".")[2][:7] == "create_" for n in names)
        assert all(n.startswith(HOMES[group]) for n in names), group
    jobs = {path.stem for path in (conf_dir() / "job").glob("*.yaml")}
    assert {name.rpartition(".")[2].replace("list_options", "list") for name in admitted["job"]} == jobs


@pytest.mark.parametrize("target", ["mltricks.jobs.evaluate", "mltricks.pruning.storage.open_storage", "gift.Net"])
def test_hydra_calls_nothing_of_ours_but_its_callback(tmp_path: Path, target: str) -> None:
    callback = [f"+hydra.callbacks.e._target_={target}", f"+hydra.callbacks.e.url=sqlite:///{tmp_path}/harm"]
    command = [sys.executable, "-m", "mltricks", "-m", "seed=0,1", "max_steps=1", *callback]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert target in done.stderr
    assert not (tmp_path / "harm").exists()


def flipped(path: Path, to: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(3):
        at = draw.randrange(len(content))
        content[at] ^= 1 << draw.randrange(8)
    to.write_bytes(content)


@pytest.mark.parametrize("name", [str(LAST), str(BEST)])
def test_flipped_bits_are_seen_or_meet_nothing(trained: Path, tmp_path: Path, name: str) -> None:
    """A bit in the padding of the file format changes nothing that is read; every other one is refused."""
    draw, refused = random.Random(0), 0

    def read(path: Path) -> Any:
        if path.suffix == ".pt":
            return digest({k: v for k, v in checkpoint.load(path).items() if k != "digest"})
        tensors, about = load_weights(path)
        return digest({"tensors": tensors, "about": about})

    whole, broken = read(trained / name), tmp_path / Path(name).name
    for _ in range(60):
        flipped(trained / name, broken, draw)
        try:
            found = read(broken)
        except ValueError as error:
            found = str(error)
            refused += 1
        assert found == whole or str(broken) in found
    assert refused > 30


def test_the_checkpoint_before_the_last_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    mltricks.train(mltricks.compose([*TINY, "epochs=3"]), folder)
    last, previous = checkpoint.load(folder / LAST), folder / "checkpoints/previous.pt"
    assert int(checkpoint.load(previous)["state"]["step"]) < int(last["state"]["step"])
    content = bytearray((folder / LAST).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / LAST).write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.pt is damaged.*previous\.pt: move it"):
        checkpoint.load(folder)
    previous.replace(folder / LAST)
    (folder / "summary.json").unlink()
    mltricks.train(resumed_config(mltricks.compose([f"resume={folder}"]), []), folder, resume=True)
    again = checkpoint.load(folder / LAST)["state"]
    assert all(torch.equal(last["state"]["params"][n], p) for n, p in again["params"].items())


def test_both_files_have_the_same_mode(trained: Path) -> None:
    assert (trained / LAST).stat().st_mode == (trained / BEST).stat().st_mode
