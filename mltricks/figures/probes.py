"""Figures of the diagnostic runs, from the content of their JSON files."""

from __future__ import annotations

from typing import Any

from mltricks.figures.base import (
    COLORS,
    Figure,
    axis,
    bars,
    color,
    faded,
    figure,
    heatmap,
    line,
    log_axis,
    names_axis,
    reference,
    shorten,
    text,
    vertical,
)
from mltricks.figures.panels import panels

ROW = 20
"""Pixels of a bar's row."""
MOST_CELLS = 150
"""Largest number of cells with their numbers written in."""


def loss_by_rate(content: dict[str, Any]) -> Figure:
    """The losses over the rates of ``job=lr_find``, with the rates read off them."""
    rates, losses, smooth = content["rates"], content["losses"], content["smooth"]
    low, first = min(smooth), content["first"]
    top = min(max(losses), max(first, low) + 0.5 * abs(first - low) + 3 * content["noise"])
    bottom = min(low, *losses)
    traces = [
        line(rates, losses, "batches", faded(COLORS["train"], 0.4)),
        line(rates, smooth, "smoothed", COLORS["train"]),
    ]
    for name, shade in (("steepest", COLORS["val"]), ("tenth", COLORS["test"])):
        at = content[name]
        traces.append(line([at, at], [bottom, top], f"{name} {at:.2g}", shade, line={"dash": "dot"}))
    x, y = axis("learning rate", log=True), axis(range=[bottom, top])
    return figure(*traces, title=f"training loss: {content['verdict']}", x=x, y=y)


def memorised(content: dict[str, Any]) -> Figure:
    """The loss of the sample over the updates of ``job=overfit``, for each learning rate tried."""
    longest = max(len(found["losses"]) for found in content["tries"])
    traces = [
        line(list(range(1, len(found["losses"]) + 1)), found["losses"], f"lr {found['learning_rate']:.3g}", color(i))
        for i, found in enumerate(content["tries"])
    ]
    chance = reference([1, longest], [content["ignorant_loss"]] * 2, "uninformed")
    values = [loss for found in content["tries"] for loss in found["losses"]]
    return figure(*traces, chance, title=f"loss: {content['verdict']}", x=axis("update"), y=log_axis(values))


def signals(content: dict[str, Any]) -> Figure:
    """Standard deviation of the outputs and norm of the gradient, layer by layer, of ``job=check_init``."""
    parts = (
        (content["activations"], "layer", "std", "standard deviation of a layer's outputs"),
        (content["gradients"], "weight", "gradient", "norm of a weight's gradient"),
    )
    height = 80 + ROW * max(len(rows) for rows, *_ in parts)
    return panels(*(lying([r[n] for r in rows], [r[v] for r in rows], title, height) for rows, n, v, title in parts))


def update_ratios(content: dict[str, Any]) -> Figure:
    """The ratio of update to weight of every weight, of ``job=update_ratio``."""
    rows = content["weights"]
    names, ratios = [r["weight"] for r in rows], [r["ratio"] for r in rows]
    drawn = lying(names, ratios, f"norm of update / norm of weight: {content['verdict']}", 80 + ROW * len(rows))
    drawn["layout"]["xaxis"] = axis(log=True)
    drawn["layout"]["shapes"] = [vertical(1e-3)]
    return drawn


def slices(content: dict[str, Any]) -> Figure:
    """The loss along three directions from the weights, of ``job=sharpness``."""
    along = content["slices"]
    traces = [line(content["distances"], losses, name, color(i)) for i, (name, losses) in enumerate(along.items())]
    title = f"training loss near the weights: top eigenvalue {content['top_eigenvalue']:.3g}"
    x = axis("distance from the weights")
    return figure(*traces, title=title, x=x, y=log_axis([v for losses in along.values() for v in losses]))


def layer_similarity(content: dict[str, Any]) -> Figure:
    """Linear CKA of the layers of two runs, of ``job=compare_layers``: the first run's as rows, upwards."""
    (rows, columns), values = content["layers"], content["similarity"]
    few = len(rows) * len(columns) <= MOST_CELLS
    texts = [[f"{value:.2f}" for value in row] for row in values] if few else None
    said = [[f"{text(a)}<br>{text(b)}<br>{value:.3f}" for b, value in zip(columns, row, strict=True)]
            for a, row in zip(rows, values, strict=True)]  # fmt: skip
    hover: dict[str, Any] = {"customdata": said, "hovertemplate": "%{customdata}<extra></extra>"}
    trace = heatmap(values, texts=texts, low=0, high=1, **hover)
    first, last = content["runs"][0], content["runs"][-1]
    x, y = named_ticks(columns, last), named_ticks(rows, first)
    return figure(trace, title="similarity of layers (linear CKA)", x=x, y=y, height=160 + 2 * ROW * len(rows))


def named_ticks(names: list[str], run: str) -> dict[str, Any]:
    """An axis of layers, with the end of the run's folder as its title."""
    found = names_axis(names, f"layers of {run[-40:]}")
    found["ticktext"] = [text(shorten(name, 24)) for name in names]
    return found


def lying(names: list[str], values: list[float], title: str, height: int) -> Figure:
    """Bars that lie below each other, each with its name."""
    y = names_axis(names, autorange="reversed")
    y["ticktext"] = [text(shorten(name, 24)) for name in names]
    trace = bars(list(range(len(names))), values, color=COLORS["train"], orientation="h")
    return figure(trace, title=title, x=axis(), y=y, height=height)
