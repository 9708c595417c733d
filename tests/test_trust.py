"""A run folder is data: nothing in it can run code, and damage is detected."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import random
import re
import shutil
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
    """A malicious run folder: its model is a job of mltricks that would import the package beside it."""
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


def test_a_malicious_folder_runs_no_code(gift: Path) -> None:
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
    """All callables in modules of mltricks, by the name that a configuration could use."""
    for module in pkgutil.walk_packages(mltricks.__path__, "mltricks."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if callable(value) and not inspect.ismodule(value) and not name.startswith("__"):
                yield f"{module.name}.{name}"


def test_a_group_creates_only_its_own_classes() -> None:
    admitted: dict[str, list[str]] = {group: [] for group in HOMES}
    for target in public_callables():
        for group, names in admitted.items():
            try:
                locate(target, group, [])
            except ValueError:
                continue
            names.append(target)
    for group, names in admitted.items():
        functions = [n for n in names if inspect.isfunction(locate(n, group, []))]
        assert group in ("model", "job") or not functions, functions
        assert group != "model" or all(n.rpartition(".")[2].startswith("create_") for n in functions)
        assert all(n.startswith(HOMES[group]) for n in names), group
    jobs = {path.stem for path in (conf_dir() / "job").glob("*.yaml")}
    assert {name.rpartition(".")[2].replace("list_options", "list") for name in admitted["job"]} == jobs


@pytest.mark.parametrize("target", ["mltricks.jobs.evaluate", "mltricks.pruning.storage.open_storage", "gift.Net"])
def test_hydra_may_call_only_our_callback(tmp_path: Path, target: str) -> None:
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
def test_flipped_bits_are_detected_or_have_no_effect(trained: Path, tmp_path: Path, name: str) -> None:
    """A flipped bit in the padding of the file format changes no content; any other flipped bit is refused."""
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
    weights = next(iter(last["state"]["params"].values())).numpy().tobytes()
    content[content.index(weights) + len(weights) // 2] ^= 1
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


@pytest.mark.parametrize("link", ["metrics.jsonl", "plots/loss.png", "checkpoints"])
def test_a_run_folder_cannot_choose_what_is_overwritten(trained: Path, tmp_path: Path, link: str) -> None:
    theirs, mine = tmp_path / "gift", tmp_path / "mine"
    (theirs / link).parent.mkdir(parents=True)
    shutil.copy(trained / "config.yaml", theirs)
    mine.mkdir()
    (mine / "last.pt").write_text("mine")
    (theirs / link).symlink_to(mine if link == "checkpoints" else mine / "last.pt")
    with pytest.raises(ValueError, match=rf"{re.escape(link)} is a link to .*outside the run's folder"):
        mltricks.train(mltricks.compose(TINY), theirs, resume=True)
    assert (mine / "last.pt").read_text() == "mine"


def test_links_within_the_folder_are_harmless(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/latest").symlink_to("checkpoints")
    (tmp_path / "run/summary.json").unlink()
    assert mltricks.train(mltricks.compose(TINY), tmp_path / "run", resume=True).status == "completed"


@pytest.mark.parametrize("name", ["config.yaml", ".hydra/config.yaml"])
@pytest.mark.parametrize("asks", ["${oc.env:SECRET}", "${oc.${word}:SECRET}", "a ${oc.env:SECRET}", "${hydra.job}"])
def test_a_run_folder_reads_no_environment_variables(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, asks: str
) -> None:
    monkeypatch.setenv("SECRET", "told")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    text = (trained / "config.yaml").read_text().replace("objective_metric: null", f"objective_metric: '{asks}'")
    (tmp_path / name).write_text(f"{text}word: env\nhydra: {{job: '${{oc.env:SECRET}}'}}\n")
    with pytest.raises(ValueError, match=r"(objective_metric|hydra\.job) is .*asks this machine"):
        resumed_config(mltricks.compose([f"resume={tmp_path}"]), [])
