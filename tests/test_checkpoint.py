"""Damaged files, full disks and diverged runs: a clear message, and the last good checkpoint unchanged."""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome, command_environment
from omegaconf import OmegaConf

import mltricks
from mltricks import checkpoint
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.observers.files import read_records
from mltricks.state import leaves, reseed_step
from mltricks.summary import read_summary

RUN = [*TINY, "epochs=3", "technique=ema", "checkpoint_every_steps=7"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    mltricks.train(mltricks.compose(RUN), folder)
    return folder


@pytest.fixture
def last(whole: Path, tmp_path: Path) -> Path:
    """A copy of a good checkpoint."""
    return Path(shutil.copy(whole / "checkpoints" / "last.pt", tmp_path / "last.pt"))


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_a_checkpoint_is_read_as_it_was_saved(last: Path) -> None:
    saved = checkpoint.load(last)
    assert saved["config"] == plain(mltricks.compose(RUN))
    assert saved["versions"]["torch"] == torch.__version__
    built = build(saved["config"]).state
    restored = checkpoint.restore(saved["state"], built, last)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(leaves(restored), leaves(saved["state"]), strict=True))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(share: float, last: Path) -> None:
    whole = last.read_bytes()
    last.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"last\.pt is damaged or is no checkpoint"):
        checkpoint.load(last)


def test_the_configuration_is_read_without_the_tensors(last: Path) -> None:
    content = bytearray(last.read_bytes())
    weights = next(leaves(checkpoint.load(last)["state"]["params"])).numpy().tobytes()[:64]
    content[content.index(weights)] ^= 1
    last.write_bytes(content)
    assert checkpoint.load_config(last)["seed"] == 0
    with pytest.raises(ValueError, match="is damaged: its tensors do not match their hash"):
        checkpoint.load(last)


@pytest.mark.parametrize("what", ["text", "a number", "a list", "code", "another dict", "no state", "no config"])
def test_a_file_that_is_not_a_checkpoint_is_refused(what: str, last: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.system, ("touch " + str(last.parent / "executed"),)

    good = content(last)
    values = {"a number": 3, "a list": [1], "code": {"format": 1, "state": Code()}, "another dict": {"weights": 1}}
    values |= {"no state": {**good, "state": {}}, "no config": {k: v for k, v in good.items() if k != "config"}}
    if what == "text":
        last.write_text("this is no checkpoint")
    elif what == "code":
        last.write_bytes(pickle.dumps(values[what]))
    else:
        torch.save(values[what], last)
    with pytest.raises(ValueError, match=r"damaged|no checkpoint"):
        checkpoint.load(last)
    assert not (last.parent / "executed").exists()


def test_a_checkpoint_of_another_format_is_refused(last: Path) -> None:
    torch.save({**content(last), "format": 99}, last)
    with pytest.raises(ValueError, match=r"has format 99, and this mltricks reads format 3. Train again"):
        checkpoint.load(last)
    torch.save({**content(last), "format": 99, "versions": {"mltricks": "7.1"}}, last)
    with pytest.raises(ValueError, match=r"Install the version that wrote it, 7\.1, or train again"):
        checkpoint.load(last)


@pytest.mark.parametrize("change", [{"state_digest": None}, {"overrides": None}, {"versions": [1]}, {"config": "{"}])
def test_a_crafted_checkpoint_is_refused_as_damaged(change: dict[str, Any], last: Path) -> None:
    crafted = {**content(last), **change}
    if crafted["state_digest"] is None:
        del crafted["state_digest"]
    crafted["digest"] = checkpoint.digest_beside_state(crafted)
    torch.save(crafted, last)
    if "versions" in change:
        assert checkpoint.load(last)["versions"] == [1]  # only shown, and only where the format is another one
        torch.save({**crafted, "format": 99}, last)
    with pytest.raises(ValueError, match=r"is damaged|has format 99"):
        checkpoint.load(last)


def test_the_fallback_is_named_only_if_it_is_whole(last: Path) -> None:
    previous = last.with_name("previous.pt")
    shutil.copy(last, previous)
    last.write_bytes(b"")
    with pytest.raises(ValueError, match=r"The checkpoint before it is .*previous\.pt: move it to"):
        checkpoint.load(last)
    previous.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is damaged or is no checkpoint\. Restore the file from a backup"):
        checkpoint.load(last)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.width=5"], "shape|is .* in the checkpoint and .* in the model"),
        (["model=mlp"], "belongs to another model or other techniques"),
        (["technique=[]"], "only the checkpoint has own.ema"),
        (["optim=sgd"], "only the checkpoint has opt"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(overrides: list[str], message: str, last: Path) -> None:
    built = build(plain(mltricks.compose([*RUN, *overrides]))).state
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(checkpoint.load(last)["state"], built, last)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no checkpoint at .*checkpoints/last\.pt"):
        checkpoint.load(tmp_path)


def test_the_command_reports_a_damaged_checkpoint(run_cli: Callable[..., Outcome], whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 garbage")
    done = run_cli(f"resume={folder}")
    assert done.status == 1
    assert "is damaged" in done.err
    assert "Traceback" not in done.err


def interrupted(folder: Path) -> Path:
    """A run of 30 steps that was stopped after 18 and has a good checkpoint, to be resumed."""
    cfg = plain(mltricks.compose(RUN))
    mltricks.train({**cfg, "max_steps": 18}, folder)
    saved = checkpoint.load(folder)
    checkpoint.save(folder / "checkpoints" / "last.pt", saved["state"], cfg)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(cfg)))
    (folder / "summary.json").unlink()
    return folder


def assert_ended_well(folder: Path) -> None:
    """Check that there is no partial file, only whole lines, and a checkpoint from which the run can be finished."""
    assert not list(folder.rglob("*.partial"))
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n") or not text
    assert len(read_records(folder / "metrics.jsonl")) == text.count("\n")
    before = int(checkpoint.load(folder)["state"]["step"])
    summary = mltricks.train(checkpoint.load(folder)["config"], folder, True)
    assert (before >= 18, summary.status, summary.steps) == (True, "completed", 30)


def test_a_file_size_limit_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    path = folder / "checkpoints" / "last.pt"
    good = path.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, len(good) // 2))

    command = [sys.executable, "-m", "mltricks", f"resume={folder}"]
    done = subprocess.run(
        command, env=command_environment(), cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert f"resume={folder} continues from the last good checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == good
    summary = read_summary(folder / "summary.json")
    assert summary is not None
    assert summary.status == "failed"
    assert_ended_well(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes the rights of root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8])
def test_a_full_disk_leaves_the_last_checkpoint(
    share: float, small_disk: Path, run_cli: Callable[..., Outcome]
) -> None:
    folder = interrupted(small_disk / "run")
    good = (folder / "checkpoints" / "last.pt").read_bytes()
    free = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * (free.f_bavail * free.f_frsize - int(share * len(good))))
    done = run_cli(f"resume={folder}", cwd=small_disk.parent)
    assert done.status == 1, done.out
    assert "No space left" in done.err or "cannot be written" in done.err
    assert "Traceback" not in done.err
    kept = checkpoint.load(folder)
    assert int(kept["state"]["step"]) > 18 or (folder / "checkpoints" / "last.pt").read_bytes() == good
    filler.unlink()
    assert_ended_well(folder)


WILD = [*TINY, "model=mlp", "model.width=128", "optim=sgd", "optim.lr=1e6"]


def first_bad_step(overrides: list[str]) -> int:
    """The first step whose loss is not finite, found by checking every step."""
    run = build(plain(mltricks.compose(overrides)))
    for i, batch in enumerate(islice(run.source.stream(0), run.total_steps)):
        reseed_step(0, i)
        run.state, metrics = run.step(run.state, batch, run.hypers.at(i))
        if not math.isfinite(float(metrics["loss"])):
            return i + 1
    raise AssertionError("it did not diverge")


@pytest.mark.parametrize("log_every", [1, 4, 50])
def test_a_diverged_run_names_the_step(log_every: int, tmp_path: Path) -> None:
    wild = [*WILD, "epochs=3", f"log_every={log_every}", "checkpoint_every_steps=1"]
    step = first_bad_step(wild)
    with pytest.raises(Exception, match=f"diverged at step {step}: the loss became"):
        mltricks.train(mltricks.compose(wild), tmp_path)
    saved = checkpoint.load(tmp_path)["state"]
    assert all(bool(t.isfinite().all()) for part in ("params", "opt") for t in leaves(saved[part]))
    assert int(saved["step"]) < step


def test_the_command_reports_a_diverged_run(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli(*WILD, "hydra.run.dir=run")
    assert done.status == 1
    for word in ("diverged at step", "optim.lr (the rate was 1e+06)", "scheduler.warmup_frac", "technique=clip_norm"):
        assert word in done.err
    assert "Traceback" not in done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert summary["error"] in done.err
    assert all(bool(t.isfinite().all()) for t in leaves(checkpoint.load(tmp_path / "run")["state"]["params"]))


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    cfg = mltricks.compose([*TINY, "epochs=1", "optim=sgd", "optim.lr=1e38", "checkpoint_every_steps=1", "log_every=1"])
    with pytest.raises(Exception, match="diverged at step"):
        mltricks.train(cfg, tmp_path)
    for path in tmp_path.rglob("last.pt"):
        assert all(bool(t.isfinite().all()) for t in leaves(checkpoint.load(path)["state"]["params"]))
