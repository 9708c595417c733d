"""``resume=DIR``: settings taken from the folder, settings that may be changed, and refusals."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY, Outcome

import mltricks
from mltricks import checkpoint
from mltricks.config.compose import plain
from mltricks.resume import differences, resumed_config, saved_config
from mltricks.summary import Summary, read_summary

RUN = [*TINY, "epochs=2", "technique=[mixup,ema]", "optim.lr=1e-3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    mltricks.train(mltricks.compose(RUN), folder)
    return folder


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """The folder of a run that was killed before it wrote its result."""
    folder = tmp_path / "stopped"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    return folder


def prints(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def resumed(folder: Path, *given: str) -> dict[str, object]:
    overrides = [f"resume={folder}", *given]
    return resumed_config(mltricks.compose(overrides), overrides)


def test_a_finished_run_is_not_changed(run_cli: Callable[..., Outcome], finished: Path) -> None:
    before = prints(finished)
    done = run_cli(f"resume={finished}")
    assert done.status == 0, done.err
    assert "is complete" in done.out
    assert prints(finished) == before


def test_a_finished_run_returns_its_result_in_python_too(finished: Path) -> None:
    summary = mltricks.train(resumed(finished), finished, True)
    assert isinstance(summary, Summary)
    assert summary == read_summary(finished / "summary.json")


def test_the_configuration_is_that_of_the_folder(stopped: Path) -> None:
    assert resumed(stopped) == checkpoint.load(stopped)["config"]
    assert resumed(stopped) == plain(mltricks.compose(RUN))


def test_before_the_first_checkpoint_the_initial_configuration_is_used(stopped: Path) -> None:
    before = resumed(stopped)
    (stopped / "checkpoints" / "last.pt").unlink()
    assert resumed(stopped) == before
    (stopped / ".hydra").mkdir()
    shutil.move(stopped / "config.yaml", stopped / ".hydra" / "config.yaml")
    assert resumed(stopped) == before


def test_settings_without_influence_on_results_may_change(stopped: Path) -> None:
    given = ["device=cpu", "progress=lines", "plots=true", "data.root=/elsewhere", "data.num_workers=0", "log_every=7"]
    cfg = resumed(stopped, *given, "engine=traced", "technique=[mixup,ema]", "optim.lr=1e-3", "epochs=2")
    before = saved_config(stopped)
    changed = {path: mine for path, (mine, _) in differences(cfg, before).items()}
    assert changed == {
        "device": "cpu",
        "progress": "lines",
        "plots": True,
        "data.root": "/elsewhere",
        "data.num_workers": 0,
        "log_every": 7,
        "engine._target_": "mltricks.engine.Traced",
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs=1", ["it was 2 there", "longer, not shorter"]),
        ("max_steps=100", ["longer, not shorter"]),
        ("seed=1", ["seed was 0 there, not 1"]),
        ("optim.lr=0.1", ["optim.lr was 0.001 there, not 0.1"]),
        ("batch_size=64", ["batch_size"]),
        ("optim=sgd", ["optim"]),
        ("technique=[ema,mixup]", ["technique was ['mixup', 'ema'] there"]),
        ("technique=[mixup]", ["technique.ema"]),
        ("technique=[mixup,ema,sam]", ["technique.sam"]),
        ("augment=none", ["technique"]),
        ("data.limit=100", ["data.limit"]),
        ("precision=bf16", ["precision.dtype"]),
        ("eval_every_epochs=2", ["eval_every_epochs"]),
        ("early_stopping.patience=3", ["early_stopping.patience"]),
        ("experiment=baseline", ["experiment=baseline"]),
    ],
)
def test_settings_that_change_results_are_refused(override: str, words: list[str], stopped: Path) -> None:
    with pytest.raises(ValueError) as refusal:
        resumed(stopped, override)
    for word in [override, "cannot be given with resume", *words]:
        assert word in str(refusal.value)


def test_another_configuration_cannot_be_put_onto_a_folder_in_python(stopped: Path) -> None:
    with pytest.raises(ValueError, match=r"optim\.lr=0\.5: the run in .* began with"):
        mltricks.train(mltricks.compose([*RUN, "optim.lr=0.5"]), stopped, True)


def test_allow_modules_of_a_folder_is_not_trusted(stopped: Path) -> None:
    content = torch.load(stopped / "checkpoints" / "last.pt", weights_only=True)
    evil = {
        **checkpoint.load(stopped)["config"],
        "allow_modules": ["os"],
        "model": {"_target_": "os.system", "command": "true"},
    }
    (stopped / "config.yaml").unlink()  # a stranger who made the folder may have made every file in it
    checkpoint.save(stopped / "checkpoints" / "last.pt", content["state"], evil)
    with pytest.raises(ValueError, match=re.escape("If you trust it, type allow_modules=[os]")):
        resumed(stopped)
    checkpoint.save(stopped / "checkpoints" / "last.pt", content["state"], {**evil, "allow_modules": []})
    with pytest.raises(ValueError, match=r"model\._target_=os\.system is refused"):
        mltricks.train(resumed(stopped), stopped, True)


def test_a_moved_folder_resumes_in_its_new_place(
    run_cli: Callable[..., Outcome], finished: Path, stopped: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "a place, with [odd] = 'names'"
    shutil.move(stopped, moved)
    (moved / "checkpoints" / ".last.pt.1.partial").write_text("left by a writer that was killed")
    done = run_cli("resume='" + str(moved).replace("'", "\\'") + "'", "progress=none")
    assert done.status == 0, done.err
    a, b = read_summary(moved / "summary.json"), read_summary(finished / "summary.json")
    assert a is not None
    assert b is not None
    assert (a.status, a.test, a.val) == ("completed", b.test, b.val)
    assert not list(moved.rglob("*.partial"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [moved.name]


def test_refusals_of_the_command_leave_no_folder(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("resume=nowhere")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "there is no such folder" in done.err
    done = run_cli("-m", "resume=a,b")
    assert done.status == 1
    assert "without -m" in done.err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run in it"):
        resumed(tmp_path)


def test_a_new_run_in_an_old_folder_is_not_taken_for_the_old_one(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    with pytest.raises(Exception, match="diverged"):
        mltricks.train(mltricks.compose([*RUN, "model=mlp", "optim=sgd", "optim.lr=1e30", "overwrite=true"]), folder)
    assert resumed(folder)["optim"]["lr"] == 1e30  # type: ignore[index]
    assert not (folder / "checkpoints" / "best.safetensors").exists()
    summary = read_summary(folder / "summary.json")
    assert summary is not None
    assert summary.status == "diverged"
