"""In a notebook: the first batch, progress, curves; signals, threads and the garbage collector stay as they were."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
import torch
from contract import make
from plotly.graph_objects import Figure

import mltricks
from mltricks.batch_figure import figure_of
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.seen import first_batch
from mltricks.state import reseed_step
from mltricks.summary import Summary


@pytest.mark.parametrize("technique", ["none", "crop,flip,mixup", "mixup,cutout", "torchvision,cutmix"])
def test_the_batch_shown_is_the_one_that_the_model_sees(technique: str) -> None:
    run = make(f"technique=[{'' if technique == 'none' else technique}]")
    shown = first_batch(run)["x"]
    seen: list[torch.Tensor] = []
    run.model.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    torch.manual_seed(99)
    batch = next(run.batches())
    reseed_step(run.cfg["seed"], 0)
    run.step(run.state, batch, run.hypers.at(0))
    assert torch.equal(seen[0], shown)


def test_showing_a_batch_changes_no_random_state() -> None:
    run = make("technique=[crop,mixup]")
    torch.manual_seed(5)
    first_batch(run)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_images_are_drawn_with_their_targets() -> None:
    cfg = mltricks.compose(["device=cpu", "batch_size=16"])
    figure = mltricks.show_batch(cfg, num=10)
    assert isinstance(figure, Figure)
    assert len(figure.layout.images) == 10
    run = build(plain(cfg))
    raw = next(run.source.stream(0))
    assert [note.text for note in figure.layout.annotations] == [str(int(y)) for y in raw["y"][:10]]
    pixels = drawn(figure.layout.images[3].source)
    wanted = raw["x"][3, 0].float() / raw["x"][:10].max() * 255
    size = pixels.shape[0] // 8
    assert np.abs(pixels[::size, ::size, 0] - wanted.numpy()).max() <= 1


def drawn(source: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))).astype(float)


def test_other_inputs_are_a_table(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 40)
    shared = ["data=text", f"data.path={text}", "data.length=8", "model=transformer", "objective=next_token"]
    figure = mltricks.show_batch(mltricks.compose([*shared, "device=cpu"]), num=5)
    pieces = figure.data[0].cells.values[0]
    assert len(pieces) == 5
    assert all(piece in text.read_text() for piece in pieces)
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    figure = mltricks.show_batch(mltricks.compose(["model=mlp", "device=cpu"]), num=4, data=((x, y),) * 3)
    assert [len(column) for column in figure.data[0].cells.values] == [4, 4]
    assert figure.data[0].header.values[0] == "<b>target</b>"


def test_targets_of_several_values_need_no_caption() -> None:
    run = make("data=digit_halves", "model=two_towers")
    assert figure_of(run, first_batch(run))["layout"]["images"]


def test_curves_are_those_of_the_history(train_digits: Callable[..., Summary]) -> None:
    result = train_digits("epochs=3")
    assert isinstance(result, mltricks.result.Result)
    figure, history = result.plot(), result.history
    lines = {(trace.yaxis, trace.name): trace for trace in figure.data}
    assert list(lines["y", "training"].y) == history["train/loss"]
    assert list(lines["y2", "validation"].y) == history["val/accuracy"]
    assert list(lines["y", "validation"].x) == [1, 2, 3]
    assert list(result.plot("f1").data[0].y) == history["val/f1"]
    with pytest.raises(ValueError, match=r"acuracy was not measured\. Did you mean accuracy"):
        result.plot("acuracy")


NOTEBOOK = """
import gc, signal, threading, torch, mltricks
before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), gc.isenabled(), gc.get_threshold(),
          threading.active_count(), torch.get_num_threads(), torch.is_grad_enabled())
---
cfg = mltricks.compose(["data.limit=320", "epochs=3", "technique=mixup", "device=cpu"])
result = mltricks.train(cfg, folder="run")
---
after = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), gc.isenabled(), gc.get_threshold(),
         threading.active_count(), torch.get_num_threads(), torch.is_grad_enabled())
assert before == after, (before, after)
---
import pandas
assert len(pandas.DataFrame(result.history)) == 3
result
---
result.plot()
---
mltricks.show_batch(cfg, num=4)
"""


def test_a_notebook(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in NOTEBOOK.split("---\n")]
    book = nbformat.v4.new_notebook(cells=cells)
    told: list[str] = []
    client = nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.on_cell_executed = lambda cell, cell_index, execute_reply: told.append(cell.source)
    client.execute()
    printed = [output for output in book.cells[1].outputs if output.output_type == "stream"]
    assert re.search(r"^ *1/3 +\d\.\d", "".join(output.text for output in printed), re.MULTILINE)
    assert "completed" in book.cells[3].outputs[0].data["text/plain"]
    for cell in book.cells[4:]:
        assert "application/vnd.plotly.v1+json" in cell.outputs[0].data
    assert (tmp_path / "run/report.html").is_file()
