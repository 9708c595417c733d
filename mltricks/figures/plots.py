"""Figures of test splits, and helpers for all figures.

matplotlib is imported when the first one is drawn, without its window system.

Legend: N images, H height, W width, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

COLORS = {"train": "#3b75af", "val": "#e1812c", "test": "#3a923a"}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # names such as $5 are text, not formulas
    "figure.constrained_layout.use": True,
}
MAX_NUMBERS, MAX_NAMES = 12, 40
"""Largest number of classes for counts in the cells, and for names at the axes, of a confusion matrix."""


def save(draw: Callable[..., Any], path: Path, *arguments: Any) -> Path:
    """Draw a figure and write it as a PNG."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the warning about glyphs that the font lacks
        draw(*arguments).savefig(path, dpi=120)
    return path


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def confusion_matrix(matrix: Tensor, classes: Sequence[str]) -> Any:
    """Fractions of every true class (row) by predicted class (column), with the counts if there is room."""
    num = len(matrix)
    shares = matrix.double() / matrix.sum(1, keepdim=True).clamp_min(1)
    figure = new_figure(5.4, 5)
    axes = figure.subplots()
    axes.grid(False)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in ((r, c) for r in range(num) for c in range(num) if num <= MAX_NUMBERS and matrix[r, c]):
        color = "white" if shares[row, column] > 0.5 else "#333333"
        axes.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=color, fontsize=8)
    if num <= MAX_NAMES:
        names, turn = [shorten(name) for name in classes], 90 if max(map(len, classes)) > 3 else 0
        size = 8 if num <= 20 else 6
        axes.set_xticks(range(num), names, rotation=turn, fontsize=size)
        axes.set_yticks(range(num), names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true", title="confusion matrix (test split)")
    return figure


def worst_examples(images: Tensor, captions: Sequence[str]) -> Any:
    """A sheet of images, (N, H, W, 3) uint8, each with its caption."""
    import numpy as np

    num, height, width = images.shape[:3]
    columns = min(num, 8)
    rows = math.ceil(num / columns)
    step_y, step_x = round(height * 1.45), round(width * 1.15)
    sheet = np.zeros((rows * step_y, columns * step_x, 4), dtype=np.uint8)
    figure = new_figure(1.15 * columns, 1.45 * rows + 0.1)
    axes = figure.subplots()
    axes.set_axis_off()
    for i, caption in enumerate(captions):
        top, left = (i // columns) * step_y + step_y - height, (i % columns) * step_x
        sheet[top : top + height, left : left + width, :3] = images[i].numpy()
        sheet[top : top + height, left : left + width, 3] = 255
        axes.text(
            left + width / 2 - 0.5,
            top - 0.5 - 0.06 * height,
            caption,
            ha="center",
            va="bottom",
            fontsize=7,
            color="#444444",
        )
    axes.imshow(sheet, interpolation="nearest", aspect=1)
    return figure


def predictions(y: Tensor, predicted: Tensor) -> Any:
    """Predicted against true values, and the distribution of errors; all target columns pooled."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    y, predicted = y.flatten(), predicted.flatten()
    low, high = float(min(y.min(), predicted.min())), float(max(y.max(), predicted.max()))
    left.plot([low, high], [low, high], color="#999999", linewidth=1)
    left.scatter(y.numpy(), predicted.numpy(), s=6, alpha=0.5, color=COLORS["test"], linewidths=0)
    left.set(xlabel="true", ylabel="predicted", title="test split")
    right.hist((predicted - y).numpy(), bins=40, color=COLORS["test"])
    right.set(xlabel="predicted - true", ylabel="samples", title="errors")
    return figure


def loss_by_position(losses: Tensor) -> Any:
    """The loss at every position of the window, (L,): the gain from context."""
    figure = new_figure(6, 3)
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses.numpy(), color=COLORS["test"])
    axes.set(xlabel="position", ylabel="loss (nats per token)", title="test split")
    return figure


def shorten(name: str, length: int = 14) -> str:
    """A name that fits beside an axis.

    >>> shorten("a_very_long_class_name")
    'a_very_long_c…'
    """
    return name if len(name) <= length else name[: length - 1] + "…"
