"""TensorBoard: the event files are read back by TensorBoard itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Outcome

from mltricks.observers.curves import layer_curves
from mltricks.observers.files import read_records
from mltricks.summary import Summary

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
DRAWN = [*(override for override in TINY if override != "plots=false"), "plots=true"]


def read_events(folder: Path) -> Any:
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def compared(events: Any) -> dict[str, Any]:
    """The row of the HPARAMS tab: the values of hyperparameters."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def test_what_was_measured_is_read_back(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    named = ["name=first", "notes='a | b'"]
    summary = train_digits(*DRAWN, "tracker=tensorboard", *named, "technique=mixup", "epochs=5", "log_every=3")
    events = read_events(folder)
    records = read_records(folder / "metrics.jsonl")
    for split, name in (("train", "loss"), ("train", "lr"), ("val", "accuracy"), ("val", "f1"), ("test", "loss")):
        found = [(point.step, point.value) for point in events.Scalars(f"{split}/{name}")]
        expected = [(r["step"], pytest.approx(r[name], rel=1e-6)) for r in records if r["split"] == split]
        assert found == expected
    for row in read_records(folder / "layers.jsonl"):
        for name, value in layer_curves(row).items():
            assert (row["step"], pytest.approx(value, rel=1e-6)) in [(p.step, p.value) for p in events.Scalars(name)]
    assert "plots/learning_curves" in events.Tags()["images"]
    config, about = (
        events.Tensors(f"{n}/text_summary")[0].tensor_proto.string_val[0].decode() for n in ("config", "about")
    )
    assert "lr: 0.003" in config
    assert "| train_samples | 320 |" in about
    assert r"| notes | a \| b |" in about
    given = compared(events)
    assert (given["optim.lr"], given["technique.mixup.alpha"], given["batch_size"]) == (0.003, 0.2, 32.0)
    assert (given["model"], given["techniques"]) == ("convnet", "mixup")
    assert events.Scalars("best/accuracy")[-1].value == pytest.approx(summary.val["accuracy"])


def test_a_sweep_fills_the_tab_of_hyperparameters(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    sweep = tmp_path / "night"
    options = ["tracker=tensorboard", "epochs=1", "optim=sgd", "optim.lr=0.1,0.01", f"hydra.sweep.dir={sweep}"]
    done = run_cli("-m", *TINY, *options)
    assert done.status == 0, done.err
    for i, rate in enumerate((0.1, 0.01)):
        events = read_events(sweep / str(i))
        summary = json.loads((sweep / str(i) / "summary.json").read_text())
        assert (compared(events)["optim.lr"], compared(events)["optim"]) == (rate, "sgd")
        assert events.Scalars("test/accuracy")[-1].value == pytest.approx(summary["test"]["accuracy"])
        assert events.Scalars("best/accuracy")[-1].value == pytest.approx(summary["val"]["accuracy"])


def test_what_costs_can_be_switched_off(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    train_digits(*DRAWN, "tracker=tensorboard", "tracker.log_images=false", "tracker.gradients=false", "epochs=5")
    tags = read_events(tmp_path / "run").Tags()
    assert tags["images"] == []
    assert not [name for name in tags["scalars"] if name.startswith("gradients/")]
    assert (tmp_path / "run/layers.jsonl").stat().st_size > 0


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(
    train_digits: Callable[..., Summary], tmp_path: Path
) -> None:
    train_digits("tracker=tensorboard", "epochs=1")
    train_digits("tracker=tensorboard", "epochs=3", resume=True)
    events = read_events(tmp_path / "run")
    assert [point.step for point in events.Scalars("val/loss")] == [10, 20, 30]
    assert [point.step for point in events.Scalars("test/loss")][-1] == 30
