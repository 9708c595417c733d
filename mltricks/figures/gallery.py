"""A sheet of pictures with captions, as a PNG."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def save_gallery(pixels: Any, captions: Any, path: Path) -> Path:
    """Write pictures, (N, H, W, 3) uint8 on the CPU, as one PNG sheet, each with its caption below.

    Pillow draws it: matplotlib would take a second.
    """
    from PIL import Image, ImageDraw, ImageFont

    num, height, width = pixels.shape[:3]
    side, line, gap = 120, 15, 8
    wide, high = (side, round(side * height / width)) if width <= height else (round(side * width / height), side)
    columns = min(num, max(1, 1024 // (wide + gap)))
    rows, words = math.ceil(num / columns), 2 * line
    sheet = Image.new("RGB", (columns * (wide + gap) + gap, rows * (high + words + gap) + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(font_file()), 11)
    path.parent.mkdir(parents=True, exist_ok=True)
    for i, (picture, caption) in enumerate(zip(pixels, captions, strict=True)):
        left, top = gap + (i % columns) * (wide + gap), gap + (i // columns) * (high + words + gap)
        scaled = Image.fromarray(picture.numpy()).resize((wide, high), Image.Resampling.NEAREST)
        sheet.paste(scaled, (left, top))
        for row, text in enumerate(caption):
            pen.text((left, top + high + 2 + row * line), text[: wide // 6], "#1b1f24", font)
    sheet.save(path)
    return path


def font_file() -> Path:
    """The font that matplotlib brings, found without importing it."""
    spec = find_spec("matplotlib")
    assert spec is not None, "matplotlib is installed"
    assert spec.origin is not None, "matplotlib is a package with files"
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
