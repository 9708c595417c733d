"""W&B: the best weights as an artifact, and artifacts as ``checkpoint=wandb:...``.

An offline run has the staged file, its digest, aliases and metadata. What only a server can show is not tested: that it
numbers versions, moves aliases, draws lineage, and what ``wandb.Api`` downloads from it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from wandb_file import Logged, read_wandb

import mltricks
from mltricks.artifacts import FILE, cache_folder, local_file
from mltricks.jobs import evaluate, predict
from mltricks.summary import Summary

OFFLINE = ["tracker=wandb", "tracker.mode=offline"]
NAME = "wandb:me/digits/model-x"


@pytest.fixture
def cached(train_digits: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logged:
    """A run whose staged artifact lies where its version v3 would be downloaded to; nobody is logged in."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train_digits(*OFFLINE, "technique=ema", "epochs=2")
    logged = read_wandb(tmp_path / "run")
    (entry,) = logged.artifact("model").manifest.contents
    place = cache_folder() / "me/digits/model-x/v3" / entry.path
    place.parent.mkdir(parents=True)
    shutil.copy(entry.local_path, place)
    return logged


def test_the_artifact_is_the_best_weights_with_their_score(cached: Logged, tmp_path: Path) -> None:
    artifact, run = cached.artifact("model"), tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    (entry,) = artifact.manifest.contents
    content = (run / "checkpoints" / FILE).read_bytes()
    assert entry.path == FILE
    assert Path(entry.local_path).read_bytes() == content
    assert Path(entry.local_path).is_relative_to(run / "wandb"), "the folder is complete: it can be moved and synced"
    assert base64.b64decode(entry.digest) == hashlib.md5(content).digest()
    assert sorted(artifact.aliases) == ["best", "latest"]
    about = json.loads(artifact.metadata)
    assert about["score"] == summary["objective"]
    assert (about["epoch"], about["val"], about["test"]) == (
        summary["epoch_of"]["val"],
        summary["val"],
        summary["test"],
    )


def run_job(job: Callable[..., None], folder: Path, *overrides: str) -> None:
    job(mltricks.compose([f"job={job.__name__}", *overrides]), folder, list(overrides), "RUN")


def test_an_artifact_is_read_wherever_weights_are(
    cached: Logged, train_digits: Callable[..., Summary], tmp_path: Path
) -> None:
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    run_job(evaluate, tmp_path / "e", f"checkpoint={NAME}:v3")
    measured = json.loads((tmp_path / "e/evaluation.json").read_text())
    assert measured["test"] == summary["test"]
    run_job(predict, tmp_path / "p", f"checkpoint={NAME}:v3")
    assert len((tmp_path / "p/predictions.jsonl").read_text().splitlines()) == 360
    x = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    assert mltricks.load(f"{NAME}:v3").predict(x).equal(mltricks.load(tmp_path / "run").predict(x))

    train_digits(
        *OFFLINE, "init=checkpoint", f"init.checkpoint={NAME}:v3", "epochs=1", "optim.lr=1e-9", folder=tmp_path / "next"
    )
    started = read_wandb(tmp_path / "next")
    assert started.config["about"]["started_from"] == [f"{NAME}:v3"]
    assert started.summary["test/accuracy"] == pytest.approx(summary["test"]["accuracy"], abs=0.02)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wandb:model-x", "Type wandb:ENTITY/PROJECT/NAME:ALIAS"),
        (f"{NAME}:best", r"no API key was found.* Downloaded before: wandb:me/digits/model-x:v3\. Log in"),
        ("wandb:me/digits/other:v0", "no API key was found"),
    ],
)
def test_what_cannot_be_read_says_why(cached: Logged, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        local_file(Path(name))


def test_a_server_that_cannot_be_reached(cached: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("mltricks.artifacts.TIMEOUT_S", 1)
    with pytest.raises(ValueError, match=r"could not be downloaded: .*Downloaded before: wandb:me/digits/model-x:v3\."):
        local_file(Path(f"{NAME}:best"))
