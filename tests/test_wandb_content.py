"""W&B: what a run's page has to show, read back from the offline file of one run and compared with other sources."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from wandb_file import Logged, read_wandb

import mltricks
from mltricks.build import load_data
from mltricks.observers.facts import run_name
from mltricks.observers.files import read_records
from mltricks.summary import Summary

OFFLINE = ["tracker=wandb", "tracker.mode=offline"]
DRAWN = [override for override in TINY if override != "plots=false"]
NAMED = ["name=first", "tags=a+b", "notes='a note, in words'"]
Done = tuple[Summary, Path, Logged]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run with everything on: its summary, its folder, and what W&B was told."""
    place = tmp_path_factory.mktemp("content")
    (place / "my_rate.py").write_text("def rate():\n    return 1.0\n")
    sys.path.insert(0, str(place))
    folder = place / "run"
    more = ["epochs=10", "optim.lr=0.02", "plots=true", "tracker.system_metrics_s=0.2", "allow_modules=my_rate"]
    try:
        cfg = mltricks.compose([*DRAWN, *OFFLINE, *NAMED, *more])
        summary = mltricks.train(cfg, folder)
    finally:
        sys.path.remove(str(place))
    return summary, folder, read_wandb(folder)


def test_name_tags_and_notes_are_the_root_keys(done: Done) -> None:
    run = done[2].run
    assert (run.display_name, list(run.tags), run.notes) == ("first", ["a", "b"], "a note, in words")


def test_the_config_has_the_facts_of_the_header(done: Done) -> None:
    summary, folder, logged = done
    about, model = logged.config["about"], mltricks.load(folder)
    assert [about[f"{split}_samples"] for split in ("train", "val", "test")] == [320, 144, 360]
    assert about["parameters"] == sum(p.numel() for p in model.module().parameters())
    assert (about["model"], about["data"], about["engine"], about["precision"]) == (
        "convnet",
        "digits",
        "eager",
        "fp32",
    )
    assert (about["num_outputs"], about["sample_shape"]) == (10, "1x8x8")
    assert (about["score"], about["goal"], about["total_steps"]) == ("val/accuracy", "maximize", summary.steps)
    assert (about["device"], about["started_from"]) == (summary.device, [])
    assert "sweep" not in logged.config


def test_curves_are_drawn_over_updates_and_summarised_by_the_best_weights(done: Done) -> None:
    summary, folder, logged = done
    axes = {name: metric.step_metric for name, metric in logged.metrics.items()}
    assert axes["train/*"] == axes["val/*"] == axes["test/*"] == axes["gradients/*"] == "step"
    assert logged.metrics["val/*"].summary.none, "W&B's own summary is that of the last validation"
    assert all(row["step"] == row["_step"] for row in logged.history if "step" in row)
    best = max((r for r in read_records(folder / "metrics.jsonl") if r["split"] == "val"), key=lambda r: r["accuracy"])
    for name in ("accuracy", "loss", "f1"):
        assert logged.summary[f"val/{name}"] == best[name] == summary.val[name]
    assert (logged.summary["best/epoch"], logged.summary["best/step"]) == (best["epoch"], best["step"])


def logged_once(logged: Logged, name: str) -> Any:
    """The only figure, picture or table that was logged by this name: its type, path, ..."""
    found = [
        {n.removeprefix(f"{name}/"): v for n, v in row.items() if n.startswith(f"{name}/")} for row in logged.history
    ]
    (value,) = filter(None, found)
    return value


def test_every_figure_is_interactive(done: Done) -> None:
    _, folder, logged = done
    figures = {path.stem: json.loads(path.read_text()) for path in (folder / "plots").glob("*.json")}
    assert {"confusion_matrix", "precision_recall", "learning_curves", "calibration"} <= figures.keys()
    for name, figure in figures.items():
        told = logged_once(logged, f"plots/{name}")
        assert told["_type"] == "plotly-file"
        sent = json.loads(logged.file(told).read_text())
        assert [trace["type"] for trace in sent["data"]] == [trace["type"] for trace in figure["data"]]
    sent = json.loads(logged.file(logged_once(logged, "plots/confusion_matrix")).read_text())
    assert sent["data"][0]["z"] == figures["confusion_matrix"]["data"][0]["z"]
    assert logged_once(logged, "plots/training_samples")["_type"] == "image-file", "there is a picture only"


def test_the_table_has_the_most_confident_errors(done: Done) -> None:
    _, folder, logged = done
    assert logged_once(logged, "test/worst_predictions")["_type"] == "table-file"
    staged = {entry.path: Path(entry.local_path) for entry in logged.artifact("run_table").manifest.contents}
    table = json.loads(next(path for name, path in staged.items() if name.endswith(".table.json")).read_text())
    model = mltricks.load(folder, ["my_rate"])
    test = load_data(model.cfg, []).test
    batch = next(test.batches([torch.arange(len(test))]))
    confidence, predicted = model.predict(batch["x"]).max(1)
    wrong = [i for i in range(len(test)) if predicted[i] != batch["y"][i]]
    order = sorted(wrong, key=lambda i: -float(confidence[i]))[:16]
    assert table["columns"] == ["image", "true", "predicted", "confidence", "test sample"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == len(order) > 2
    for row, i in zip(rows, order, strict=True):
        assert row["confidence"] == pytest.approx(float(confidence[i]), abs=1e-5)
        at = row["test sample"]
        assert (row["true"], row["predicted"]) == (str(int(batch["y"][at])), str(int(predicted[at])))
        sent = np.asarray(Image.open(staged[row["image"]["path"]]).convert("RGB"))
        shown = model.info.input.pictures(batch["x"][at : at + 1])[0].numpy()
        assert (sent == shown).all()


def test_norms_of_layers_are_those_of_the_file(done: Done) -> None:
    _, folder, logged = done
    rows = {row["_step"]: row for row in logged.history if any(name.startswith("gradients/") for name in row)}
    written = read_records(folder / "layers.jsonl")
    assert [line["step"] for line in written] == sorted(rows) == [1, 50, 100]
    for line in written:
        for group, norms in line["groups"].items():
            told = [rows[line["step"]][f"{name}/{group}"] for name in ("gradients", "weights", "update_ratio")]
            assert told == [norms["gradient"], norms["weight"], norms["ratio"]]


def test_system_metrics_code_and_git(done: Done) -> None:
    summary, _, logged = done
    assert logged.num_stats > 1
    (source,) = logged.artifact("source").manifest.contents
    assert source.path == "my_rate.py"
    assert Path(source.local_path).read_text().startswith("def rate()")
    if summary.git is not None:
        assert logged.run.git.commit == summary.git["commit"]


def test_what_costs_can_be_switched_off(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    off = [
        "log_model=false",
        "log_figures=false",
        "log_images=0",
        "gradients=false",
        "system_metrics_s=null",
        "git=false",
    ]
    train_digits(*OFFLINE, *(f"tracker.{setting}" for setting in off), "plots=true", "epochs=6")
    logged = read_wandb(tmp_path / "run")
    assert logged.artifacts == []
    assert not [n for row in logged.history for n in row if n.startswith(("plots/", "gradients/", "test/worst"))]
    assert logged.run.git.commit == ""
    assert (tmp_path / "run/layers.jsonl").stat().st_size > 0


def test_a_resumed_run_continues_its_own_run(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    train_digits(*OFFLINE, "epochs=1")
    first = read_wandb(tmp_path / "run")
    train_digits(*OFFLINE, "epochs=3", resume=True)
    second = read_wandb(tmp_path / "run")
    assert first.folder != second.folder
    assert first.run.run_id == second.run.run_id
    assert {row["_step"] for row in first.history} == {10}
    assert {row["_step"] for row in second.history} == {20, 30}
    assert second.summary["epochs"] == 3
    assert second.artifact("model").name == first.artifact("model").name == f"model-{first.run.run_id}"


@pytest.mark.parametrize(
    ("name", "folder", "sweep", "said"),
    [
        (None, "outputs/2026-03-04/10-11-12", None, "2026-03-04 10-11-12"),
        ("first", "outputs/2026-03-04/10-11-12", None, "first"),
        (None, "multirun/x/7", "multirun/x", "007"),
        ("lr", "multirun/x/7", "multirun/x", "lr 007"),
    ],
)
def test_names_of_runs(name: str | None, folder: str, sweep: str | None, said: str) -> None:
    assert run_name(name, Path(folder), None if sweep is None else Path(sweep)) == said


SLEEPER = """
import os, signal
from mltricks.observers.wandb import Wandb


class Sleeper(Wandb):
    def __init__(self):
        super().__init__("p", None, None, "offline", "auto", None, True, 0, True, None, True, False, 1.0, 0.5)

    def start(self, run, folder, resumed_at):
        super().start(run, folder, resumed_at)
        os.kill(self.link.process.pid, signal.SIGSTOP)

    def record(self, record):
        for i in range(400):
            self.log({**record, "step": 400 * record["step"] + i}, {"a_name_of_many_letters": float(i)})
"""


def test_a_sender_that_hangs_does_not_make_training_wait(
    train_digits: Callable[..., Summary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mltricks.observers.wandb_sender import link

    (tmp_path / "hangs.py").write_text(SLEEPER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(link, "_link", None)  # a sender of its own
    summary = train_digits("tracker=custom", "tracker._target_=hangs.Sleeper", "allow_modules=hangs", "epochs=2")
    assert summary.status == "completed", "2,000 rows are more than a pipe holds"
    assert "not all was sent within 0.5 s (tracker.finish_timeout_s)" in capsys.readouterr().err
    assert link._link is not None
    os.kill(link._link.process.pid, signal.SIGCONT)
    assert len(read_wandb(tmp_path / "run").history) == 800, "it goes on by itself"
