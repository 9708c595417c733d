"""The page ``report.html``: one file, nothing loaded from elsewhere, no scripts; light and dark, wide and narrow."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

CSS = """
:root { --ink: #1b1f24; --soft: #656d76; --line: #d8dee4; --card: #ffffff; --page: #f6f8fa; --mark: #1a7f37; --bad: #b35900 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #8d96a0; --line: #30363d; --card: #161b22; --page: #0d1117; --mark: #3fb950; --bad: #d29922 }
  img.plot { filter: invert(0.91) hue-rotate(180deg) }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1.2rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0.2rem 0; overflow-wrap: anywhere } h2 { font-size: 1.05rem; margin: 0 0 0.7rem }
p.sub { color: var(--soft); margin: 0 0 1rem; overflow-wrap: anywhere }
section, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: 0 0 1rem }
summary { cursor: pointer; font-weight: 600 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); gap: 0.8rem; margin: 0 0 1rem }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); column-gap: 1rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.7rem 0.8rem }
.card b { display: block; font-size: 1.15rem; font-variant-numeric: tabular-nums } .card span { color: var(--soft); font-size: 0.85rem }
.completed b { color: var(--mark) } .diverged b { color: var(--bad) }
.scroll { overflow-x: auto } .scroll img.wide { max-width: none; width: max(100%, 36rem) } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 500 } tr:last-child td { border-bottom: 0 }
pre { overflow-x: auto; margin: 0.6rem 0 0; font-size: 0.85rem } img { max-width: 100% } img.plot { display: block; border-radius: 6px }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(4.8rem, 1fr)); gap: 0.8rem }
.worst figure { margin: 0 } .worst img { width: 100%; image-rendering: pixelated; border-radius: 6px; display: block }
.worst figcaption { font-size: 0.8rem; color: var(--soft); overflow-wrap: anywhere } .worst b { color: var(--ink) }
"""


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """A whole document around parts that are HTML already; the title and the subtitle are text."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title><style>{CSS}</style></head>
<body><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>
{"".join(part for part in body if part)}
</body></html>
"""


def cards(values: dict[str, str], style: str = "") -> str:
    """A row of large numbers, each with a word below; the first one in the given style."""
    styles = [style, *[""] * len(values)]
    boxes = (
        f'<div class="card {escape(s)}"><b>{escape(v)}</b><span>{escape(k)}</span></div>'
        for s, (k, v) in zip(styles, values.items(), strict=False)
    )
    return f'<div class="cards">{"".join(boxes)}</div>'


def section(title: str, *parts: str) -> str:
    """A titled part of the page, or nothing where it is empty."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>" if any(parts) else ""


def pair(*parts: str) -> str:
    """Parts side by side where there is room."""
    return f'<div class="pair">{"".join(parts)}</div>'


def folded(title: str, *parts: str) -> str:
    """A part that is closed at first."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of texts and numbers."""
    lines = "".join(f"<tr>{''.join(f'<td>{escape(shown(cell))}</td>' for cell in row)}</tr>" for row in rows)
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    return f'<div class="scroll"><table>{top}{lines}</table></div>' if lines else ""


def shown(value: Any) -> str:
    """A number as it is read, or text."""
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def picture(path: Path | None, wide: bool = False) -> str:
    """A PNG file as part of the page; nothing where it is missing. A wide one keeps its size on a phone and is swiped."""
    if path is None or not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    shape = "plot wide" if wide else "plot"
    return f'<div class="scroll"><img class="{shape}" alt="{escape(path.stem.replace("_", " "))}" src="data:image/png;base64,{data}"></div>'


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
