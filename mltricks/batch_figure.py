"""``mltricks.show_batch``: the first training batch as the model sees it, as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from mltricks.batch import Batch
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.values import Count, check_value
from mltricks.figures.samples import gallery, table
from mltricks.given import with_objects
from mltricks.process.device import choose_device
from mltricks.seen import first_batch
from mltricks.state import map_state, named_leaves

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_VALUES = 12
"""Numbers of a sample in a table; the rest is left out, which the head says."""


def show_batch(cfg: Any, num: int = 16, model: nn.Module | None = None, data: Any = None) -> Figure:
    """Draw samples of the first training batch after every augmentation, with their targets; nothing is trained.

    The samples are those of the first update of ``mltricks.train`` with the same arguments, pixel for pixel. Images and
    pairs of images are drawn; of texts and other inputs the figure is a table.

    Args:
        cfg: the result of ``mltricks.compose``.
        num: samples to draw, >= 1; at most the batch.
        model, data: as for ``mltricks.train``.

    Raises:
        ValueError: the configuration is refused.
    """
    from plotly.graph_objects import Figure

    check_value("num", num, Count)
    settings, objects = with_objects(plain(cfg), model, data)
    given = objects.data and objects.data.to(choose_device(settings["device"]))
    run = build(settings, given, objects.model)
    batch = map_state(lambda t: t[:num].cpu(), first_batch(run))
    return Figure(figure_of(run, batch))


def figure_of(run: Run, batch: Batch) -> dict[str, Any]:
    """The samples of a batch as pictures or, where their kind has none, as a table."""
    info = run.data.info.to(batch["y"].device)
    pictures = info.input.pictures(info.input.denormalize(batch["x"]))
    captions = [run.objective.caption(y, info) for y in batch["y"]]
    if pictures is not None:
        return gallery(pictures, captions)
    texts = info.input.texts(batch["x"], info.classes)
    if texts is not None:
        return table({"text": texts})
    parts = batch["x"] if isinstance(batch["x"], dict) else {"x": batch["x"]}
    columns = {"target": captions} if any(captions) else {}
    for name, x in named_leaves(parts):
        x = x.flatten(1)
        head = name if x.shape[1] <= MOST_VALUES else f"{name}, the first {MOST_VALUES} of {x.shape[1]}"
        columns[head] = ["  ".join(f"{value:.4g}" for value in row[:MOST_VALUES].tolist()) for row in x]
    return table(columns)
