"""Trackers: their files are read back, and their failures are reported once and do not stop training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Outcome
from wandb_file import read_wandb

from mltricks.artifacts import has_key
from mltricks.observers.files import read_records
from mltricks.observers.wandb import last_id
from mltricks.summary import Summary

KEY = "0123456789abcdef0123456789abcdef01234567"
DRAWN = [*(override for override in TINY if override != "plots=false"), "plots=true"]
HOME = {"NETRC": "/nonexistent", "WANDB_ERROR_REPORTING": "false"}


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the W&B account of the machine's user."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")


def test_an_offline_run_holds_everything_but_the_key(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    options = ["tracker=wandb", "tracker.mode=offline", "name=first", "tags=a+b", "notes=a note", "tracker.group=mine"]
    folder = tmp_path / "run"
    done = run_cli(
        *DRAWN, *options, "epochs=2", "log_every=1", f"hydra.run.dir={folder}", env={**HOME, "WANDB_API_KEY": KEY}
    )
    assert (done.status, done.err) == (0, ""), done.err
    logged = read_wandb(folder)
    assert (logged.run.project, logged.run.run_group, logged.run.job_type) == ("mltricks", "mine", "train")
    assert list(logged.run.tags) == ["a", "b"]
    assert logged.config["optim"]["lr"] == 3e-3
    assert logged.config["data"]["limit"] == 320
    rows = {row["_step"]: row for row in logged.history}
    records = read_records(folder / "metrics.jsonl")
    assert set(rows) == set(range(1, 21))
    for record in records:
        for name in ("loss", "accuracy"):
            assert rows[record["step"]][f"{record['split']}/{name}"] == record[name]
    summary = json.loads((folder / "summary.json").read_text())
    assert logged.summary["test/accuracy"] == summary["test"]["accuracy"]
    assert logged.summary["val/accuracy"] == summary["val"]["accuracy"], "the value of the best weights"
    assert logged.summary["status"] == "completed"
    assert any(name.startswith("plots/confusion_matrix") for name in rows[20])
    assert logged.exit_code == 0
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), f"{path} holds the API key"
    assert KEY not in done.out + done.err


def test_a_server_that_cannot_be_reached_does_not_stop_training(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    env = {**HOME, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    options = ["tracker=wandb", "tracker.mode=online", "tracker.init_timeout_s=1", "epochs=1"]
    done = run_cli(*TINY, *options, f"hydra.run.dir={tmp_path}/run", env=env)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "completed"
    ours = [line for line in done.err.splitlines() if line.startswith("tracker=wandb: ")]
    assert len(ours) == 1, done.err
    assert "no run could be started" in ours[0]
    assert "wandb sync run/wandb/offline-run-*" in ours[0]
    assert read_wandb(tmp_path / "run").exit_code == 0
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), f"{path} holds the API key"


def test_a_sweep_without_an_account_is_one_group_of_runs(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps/nightly"
    options = ["tracker=wandb", "epochs=1", "seed=0,1", f"hydra.sweep.dir={sweep}"]
    done = run_cli("-m", *TINY, *options, env=HOME)
    assert done.status == 0, done.err
    logged = [read_wandb(sweep / str(i)) for i in range(2)]
    assert [(r.run.run_group, r.run.display_name, r.run.job_type) for r in logged] == [
        ("nightly", "000", "trial"),
        ("nightly", "001", "trial"),
    ]
    assert [r.config["seed"] for r in logged] == [0, 1]
    assert len({r.run.run_id for r in logged}) == 2
    said = [line for line in done.err.splitlines() if "no API key found" in line]
    assert len(said) == 1, "messages that hold for all trials are printed once"
    assert "recorded offline, wandb sync sweeps/nightly/*/wandb/offline-run-* sends it" in said[0]


def test_a_diverged_run_has_exit_code_1(train_digits: Callable[..., Summary], tmp_path: Path, as_nobody: None) -> None:
    from mltricks.ledger import Diverged

    with pytest.raises(Diverged):
        train_digits("tracker=wandb", "optim=sgd", "optim.lr=1e30")
    logged = read_wandb(tmp_path / "run")
    assert (logged.exit_code, logged.summary["status"]) == (1, "diverged")
    assert last_id(tmp_path / "run") == logged.run.run_id


def test_an_error_of_wandb_names_the_setting(
    as_nobody: None, train_digits: Callable[..., Summary], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_digits("tracker=wandb", "tracker.mode=offline", f"tags={'x' * 65}").status == "completed"
    said = capsys.readouterr().err
    assert "tracker=wandb: stopped (1 validation error for Settings run_tags" in said
    assert "Tags must be between 1 and 64 characters" in said


def test_a_sender_that_dies_is_reported_once_and_training_goes_on(
    as_nobody: None, train_digits: Callable[..., Summary], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killer = ["tracker=custom", "tracker._target_=kills_sender.Killer", "allow_modules=[kills_sender]"]
    (tmp_path / "kills_sender.py").write_text(KILLER)
    sys.path.insert(0, str(tmp_path))
    try:
        summary = train_digits(*killer, "epochs=3")
    finally:
        sys.path.remove(str(tmp_path))
    assert summary.status == "completed"
    assert capsys.readouterr().err.splitlines() == [
        "tracker=wandb: stopped (the process that sends has ended); training goes on"
    ]


KILLER = """
from mltricks.observers.wandb import Wandb


class Killer(Wandb):
    def __init__(self):
        super().__init__("p", None, None, "offline", "auto", None, True, 0, True, None, True, False, 1.0, 20.0)

    def record(self, record):
        super().record(record)
        if record["split"] == "val" and record["epoch"] == 1:
            self.link.process.kill()
            assert self.link.wait(self.key, 20.0)
"""


def test_the_places_where_a_key_is_looked_for(as_nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key()
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key(), "a key for another host does not count"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("mode=onlin", "Did you mean online"),
        ("init_timeout_s=0", "0 < value"),
        ("project=a/b", r"tracker\.project=a/b is no name for W&B\. Allowed: 1 to 128 characters other than / "),
        ("model_name='my model'", r"tracker\.model_name=my model is no name for W&B"),
    ],
)
def test_wrong_settings_are_refused(train_digits: Callable[..., Summary], setting: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_digits("tracker=wandb", f"tracker.{setting}")
