"""The page ``report.html``: one file without scripts that loads nothing else, for any screen, light or dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

CSS = Path(__file__).with_suffix(".css")


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """A whole document around parts that are HTML; title and subtitle are text."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title><style>{CSS.read_text()}</style></head>
<body><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>
{"".join(part for part in body if part)}
</body></html>
"""


def cards(values: dict[str, str], style: str = "") -> str:
    """A row of large numbers, each with a label below; the first one in the given style."""
    styles = [style, *[""] * len(values)]
    boxes = (
        f'<div class="card {escape(s)}"><b>{escape(v)}</b><span>{escape(k)}</span></div>'
        for s, (k, v) in zip(styles, values.items(), strict=False)
    )
    return f'<div class="cards">{"".join(boxes)}</div>'


def section(title: str, *parts: str) -> str:
    """A section with a title; empty without content."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>" if any(parts) else ""


def pair(*parts: str) -> str:
    """Parts side by side if there is room."""
    return f'<div class="pair">{"".join(parts)}</div>'


def folded(title: str, *parts: str) -> str:
    """A part that the reader can open; initially closed."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of texts and numbers."""
    lines = "".join(f"<tr>{''.join(f'<td>{escape(shown(cell))}</td>' for cell in row)}</tr>" for row in rows)
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    return f'<div class="scroll"><table>{top}{lines}</table></div>' if lines else ""


def shown(value: Any) -> str:
    """A number formatted for reading, or text."""
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def picture(path: Path | None, wide: bool = False) -> str:
    """A PNG file as part of the page; empty if it is missing. A wide picture scrolls on a phone."""
    if path is None or not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    shape = "plot wide" if wide else "plot"
    name = escape(path.stem.replace("_", " "))
    return f'<div class="scroll"><img class="{shape}" alt="{name}" src="data:image/png;base64,{data}"></div>'


def gallery(images: Tensor, captions: Sequence[tuple[str, str]]) -> str:
    """Images, (N, H, W, 3) uint8, each with a caption of a bold and a plain part."""
    from PIL import Image

    figures = []
    for pixels, (bold, plain) in zip(images, captions, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        caption = f"<figcaption><b>{escape(bold)}</b><br>{escape(plain)}</figcaption>"
        figures.append(f'<figure><img alt="" src="data:image/png;base64,{data}">{caption}</figure>')
    return f'<div class="worst">{"".join(figures)}</div>'
