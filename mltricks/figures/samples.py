"""Figures of samples: a grid of pictures, or a table.

Legend: N pictures, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mltricks.figures.base import Figure, figure, shorten, text
from mltricks.figures.page import png_uri

COLUMNS = 8
CELL = 110
"""Height and width of a picture in pixels of the page."""
CAPTION = 0.28
"""Height of a caption as a share of a picture."""


def gallery(pictures: Any, captions: Sequence[str]) -> Figure:
    """Pictures (N, H, W, 3) uint8 in rows, each with its caption below."""
    columns = min(COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    images, notes = [], []
    for i, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(i, columns)
        top = -row * (1 + CAPTION)
        place = {"xref": "x", "yref": "y", "x": column, "y": top}
        sharp = max(1, round(CELL / len(pixels)))  # a browser would smooth small pictures
        enlarged = pixels.repeat_interleave(sharp, 0).repeat_interleave(sharp, 1)
        images.append({"source": png_uri(enlarged), "sizex": 0.94, "sizey": 1, "layer": "above", **place})
        words = {"text": text(shorten(caption, 20)), "showarrow": False, "font": {"size": 11}}
        notes.append({**words, "xref": "x", "yref": "y", "x": column + 0.47, "y": top - 1, "yanchor": "top"})
    hidden = {"visible": False, "fixedrange": True}
    x = {**hidden, "range": [0, columns]}
    y = {**hidden, "range": [-rows * (1 + CAPTION), 0], "scaleanchor": "x"}
    height = round(rows * CELL * (1 + CAPTION)) + 24
    look: dict[str, Any] = {"height": height, "width": columns * CELL + 22, "plot_bgcolor": "rgba(0,0,0,0)"}
    look |= {"images": images, "annotations": notes}
    return figure(x=x, y=y, **look)


def table(columns: Mapping[str, Sequence[str]]) -> Figure:
    """A table by column."""
    cells = [[text(value) for value in column] for column in columns.values()]
    head = {"values": [f"<b>{text(name)}</b>" for name in columns], "align": "left"}
    trace: dict[str, Any] = {"type": "table", "header": head, "cells": {"values": cells, "align": "left"}}
    found = figure(trace, height=60 + 24 * max(map(len, cells), default=0))
    return {"data": found["data"], "layout": {k: v for k, v in found["layout"].items() if k not in ("xaxis", "yaxis")}}
