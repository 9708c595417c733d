"""What a run prints: its header, the rows of its validations, its result, and the bar of a terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome
from terminal import on_terminal, shown_lines

import mltricks
from mltricks.config.compose import plain
from mltricks.observers.bar import progress_bar
from mltricks.observers.changes import changed
from mltricks.observers.closing import closing
from mltricks.observers.console import STYLES, Bar
from mltricks.observers.epoch_table import EpochTable
from mltricks.observers.files import read_records
from mltricks.observers.formats import clock, number, wrapped
from mltricks.observers.glimpse import AVERAGED, Glimpse
from mltricks.summary import Summary

SHOWN = [*(o for o in TINY if o != "progress=none"), "progress=auto"]


def test_a_run_prints_its_header_a_row_for_every_validation_and_its_result(
    run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    about = ["name=first", "tags=small+fast", "notes=one two"]
    done = run_cli(*SHOWN, "epochs=3", *about, "optim.lr=0.003", "optim.beta1=0.8", f"hydra.run.dir={folder}")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    records, summary = read_records(folder / "metrics.jsonl"), json.loads((folder / "summary.json").read_text())
    assert lines.pop(0) == "run      first"
    assert [lines.pop(0), lines.pop(0)] == ["tags     small, fast", "notes    one two"]
    assert lines[0] == "data     digits: 320 train, 144 validation, 360 test, shape 1x8x8, 10 classes"
    assert re.fullmatch(r"model    convnet: [\d,]+ parameters", lines[1])
    assert re.fullmatch(r"device   cpu with \d+ threads?, engine eager, precision fp32", lines[2])
    start = lines.index(next(line for line in lines if line.startswith("epoch ")))
    said = " ".join(line[9:] for line in lines[3 : start - 1])
    assert said == "data.limit=320  model.width=4  epochs=3  optim.beta1=0.8", "0.003 is the default rate"
    for line, val in zip(lines[start + 1 : start + 4], [r for r in records if r["split"] == "val"], strict=True):
        train = next(r for r in records if r["split"] == "train" and r["step"] == val["step"])
        epoch, *values = line.split()[:5]
        assert epoch == f"{val['epoch']}/3"
        assert values == [
            number(v) for v in (train["epoch_loss"], train["epoch_accuracy"], val["loss"], val["accuracy"])
        ]
    assert lines[start + 4].startswith("completed: 30 steps in ")
    best = summary["epoch_of"]["val"]
    assert f"accuracy {number(summary['val']['accuracy'])}" in lines[start + 5]
    assert f"accuracy {number(summary['test']['accuracy'])}" in lines[start + 6]
    assert lines[start + 5].endswith(f"(epoch {best})")
    assert lines[start + 6].endswith(f"(epoch {best})")
    assert lines[-2:] == ["  run", "  python -m mltricks job=predict checkpoint=run"]
    assert "\x1b" not in done.out
    assert max(map(len, lines)) <= 80


def test_progress_none_prints_nothing(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*TINY, "max_steps=2")
    assert (done.status, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_gets_a_bar_with_the_loss_and_lines_that_fit(tmp_path: Path, columns: int) -> None:
    """The real command on a pseudo terminal: it draws a bar, then leaves whole lines and a visible cursor."""
    status, text = on_terminal([*SHOWN, "epochs=2", "hydra.run.dir=run"], tmp_path, columns)
    assert status == 0, text
    assert "━" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
    lines = shown_lines(text)
    bars = [line for line in lines if "━" in line]
    assert any(re.search(r"loss \d+\.\d+", line) for line in bars), "the loss shows before the first record, at step 50"
    commands = [line for line in lines if line.startswith("  python -m")]
    assert max(len(line) for line in lines if line not in commands) <= columns
    assert commands == ["  python -m mltricks job=predict checkpoint=run"]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_without_colours_gets_none(tmp_path: Path, variables: dict[str, str]) -> None:
    status, text = on_terminal([*SHOWN, "epochs=1", "hydra.run.dir=run"], tmp_path, 80, **variables)
    assert status == 0, text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    assert ("\x1b" in text) == ("TERM" not in variables), "a dumb terminal gets plain lines"
    assert "completed: 10 steps" in text


def test_early_stopping_says_why(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*SHOWN, "epochs=9", "early_stopping.patience=2", "early_stopping.min_delta=0.9")
    assert done.status == 0, done.err
    said = " ".join(done.out.split())
    assert "stopped early at epoch 3 of 9, after 30 steps in" in said
    assert "val accuracy did not improve in 2 validations (early_stopping.patience)" in said


def test_a_run_that_learnt_nothing_is_told_so(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*SHOWN, "epochs=1", "optim.lr=1e-9")
    assert "warning     no better than a constant prediction, whose validation accuracy is" in done.out


def test_an_interrupted_run_says_how_to_continue() -> None:
    summary = Summary("interrupted", steps=7)
    assert closing(summary, Path("a b"), {}, 0, 80) == [
        "interrupted at step 7; continue with:",
        "  python -m mltricks \"resume='a b'\"",
    ]


def test_a_long_first_epoch_says_how_the_loss_moves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("mltricks.observers.console.EARLY_S", -1.0)
    mltricks.train(mltricks.compose([*SHOWN, "progress=lines", "max_steps=6"]), tmp_path / "run")
    early = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert re.fullmatch(
        r"step 1 of 6:  loss \d\.\d{4}  accuracy \d\.\d{4}  first validation in about \d+:\d\d", early[0]
    )


def test_a_notebook_shows_the_lines(tmp_path: Path) -> None:
    """In a real kernel; ``bar`` must not leave an empty box of rich."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    code = "import mltricks\nmltricks.train(mltricks.compose({}), {!r});"
    cells = [
        nbformat.v4.new_code_cell(code.format([*SHOWN[:-1], "epochs=1", f"progress={how}"], str(tmp_path / how)))
        for how in ("auto", "bar")
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells:
        assert {output.output_type for output in cell.outputs} == {"stream"}, cell.outputs
        text = "".join(output.text for output in cell.outputs)
        assert text.startswith("data     digits: ")
        assert "completed: 10 steps" in text


def test_the_bar_reads_its_numbers_only_when_it_is_drawn() -> None:
    from rich.console import Console

    source = Bar()
    source.num_epochs, source.num_steps, source.steps_per_epoch, source.batch_size = 5, 50, 10, 32
    source.done = source.resumed_at = 0
    source.begun, source.score, source.glimpse = -1e9, "accuracy", Glimpse(("loss", "accuracy"))
    console = Console(record=True, width=110, file=open(os.devnull, "w"))  # noqa: SIM115
    bar = progress_bar(source, STYLES, console)
    source.updated({"loss": torch.tensor(0.25), "accuracy": torch.tensor(0.75)})
    for step in range(1, 24):
        source.step(step)
    console.print(*bar.get_renderables())
    console.file.close()
    text = console.export_text()
    for shown in ("epoch 3/5", "23/50", "loss 0.2500", "accuracy 0.7500"):
        assert shown in text
    source.tested({}, torch.zeros(1))  # after an early stop
    assert source.fields()["left"] == "testing"


def test_metrics_are_read_only_when_a_reading_is_due() -> None:
    glimpse = Glimpse(("loss",))
    glimpse.due = float("inf")
    glimpse.offer({"loss": torch.tensor(1.0)})
    assert glimpse.means() == {}
    for value in range(10):
        glimpse.due = 0.0
        glimpse.offer({"loss": torch.tensor(float(value)), "other": torch.tensor(0.0)})
        assert glimpse.due > 0.0
    latest = range(10 - AVERAGED, 10)
    assert glimpse.means() == {"loss": sum(latest) / AVERAGED}


def test_a_time_shows_hours_only_if_there_are_any() -> None:
    assert [clock(s) for s in (5.2, 59.7, 3725.0)] == ["0:05", "1:00", "1:02:05"]


EXTREMES = [-1e30, -123456.7, -0.00012345, 0.0, 9.99999, 99.9999, 99999.94, 123456.7, 1e30, float("inf"), float("nan")]


def test_numbers_fit_their_columns() -> None:
    assert max(len(number(value)) for value in EXTREMES) <= 8
    for value in EXTREMES[:-2]:
        assert float(number(value)) == pytest.approx(value, rel=0.06)


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize("score", ["accuracy", "loss", "bits_per_character", "a_metric_of_my_own_with_a_long_name"])
@pytest.mark.parametrize("num_epochs", [1, 9999])
def test_rows_fit_and_are_aligned(width: int, score: str, num_epochs: int) -> None:
    table = EpochTable(num_epochs, score, width)
    lines = []
    for value in EXTREMES:
        train = {"split": "train", "epoch": num_epochs, "loss": value, score: value, "lr": 1.234e-5}
        val = {"split": "val", "epoch": num_epochs, "step": 1, "loss": value, score: value}
        lines += table.lines(train, val, 86_400.0, 1e7, is_best=True)
    assert len(lines) == 2 + len(EXTREMES), "one table header"
    assert max(map(len, lines)) <= width
    assert len({len(line) for line in lines[2:]}) == 1
    assert all(line.split()[0] == f"{num_epochs}/{num_epochs}" for line in lines[2:])


def test_a_resumed_run_without_a_training_record_has_a_row() -> None:
    table = EpochTable(3, "rmse", 80)
    *_, row = table.lines({}, {"split": "val", "epoch": 3, "step": 9, "loss": 0.5, "rmse": 0.7}, 1.0, None, False)
    assert row.split() == ["3/3", "0.5000", "0.7000", "1.0", "s"]


@pytest.mark.parametrize(
    ("overrides", "shown"),
    [
        (["epochs=10", "seed=1"], ["seed=1"]),
        (["optim=adamw", "optim.lr=3e-3"], []),
        (["optim=sgd", "optim.lr=0.05", "optim.momentum=0.8"], ["optim=sgd", "optim.momentum=0.8"]),
        (["technique=[mixup,ema]", "technique.mixup.alpha=0.2"], ["technique=mixup+ema"]),
        (["technique=[mixup]", "technique.mixup.alpha=0.3"], ["technique=mixup", "technique.mixup.alpha=0.3"]),
        (["data.limit=99", "model.width=8", "early_stopping.patience=0"], ["data.limit=99", "model.width=8"]),
        (["name=x", "progress=lines", "tags=[a]", "device=cpu", "hydra.run.dir=x"], []),
    ],
)
def test_a_header_shows_the_overrides_that_change_something(overrides: list[str], shown: list[str]) -> None:
    cfg: dict[str, Any] = plain(mltricks.compose([o for o in overrides if not o.startswith("hydra")]))
    assert list(changed(overrides, cfg)) == shown


def test_wrapped_lines_keep_every_part() -> None:
    parts = [f"part{n}=" + "x" * n for n in range(0, 60, 7)]
    for width in (30, 40, 80):
        lines = wrapped("head  ", parts, width)
        assert max(map(len, lines)) <= width
        assert "".join("".join(lines).split()) == "head" + "".join(parts)
