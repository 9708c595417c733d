"""HTML pages: one self-contained file that loads nothing else, for any screen, light or dark.

Jinja2 fills the templates and escapes every text. Data reach scripts as JSON in elements that no data can end, and the
content security policy names each script by its hash: nothing in the data is ever parsed as HTML or run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import secrets
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mltricks.figures.parts import Gallery

HERE = Path(__file__).parent
TEMPLATES, ASSETS = HERE / "templates", HERE / "assets"


def render(
    template: str, *, folder: Path | None = None, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any
) -> bytes:
    """A whole document in UTF-8 from a template that extends ``base.html`` and fills its block ``body``.

    Args:
        template: name of a file in ``folder`` or in ``figures/templates``.
        folder: templates of the caller's own.
        styles: CSS texts behind the house style.
        scripts: JavaScript texts behind plotly.js, ``charts.js`` and ``copy.js``; they share the global scope.
        **values: what the template shows; ``title`` is needed.
    """
    from markupsafe import Markup

    style = "\n".join([asset("page.css"), *styles])
    texts = [plotly_js(), *(text.encode() for text in (asset("charts.js"), asset("copy.js"), *scripts))]
    marks = [f"/*{secrets.token_hex(16)}*/" for _ in texts]
    marked = {"style": Markup(style), "scripts": [Markup(mark) for mark in marks]}
    text = environment(folder).get_template(template).render(**values, **marked, policy=policy(texts))
    document: bytes = text.encode("utf-8", "replace")
    for mark, script in reversed(
        list(zip(marks, texts, strict=True))
    ):  # plotly.js last, and as bytes, since it is long
        document = document.replace(mark.encode(), script, 1)
    return document


@cache
def environment(folder: Path | None) -> Any:
    """Jinja2 with autoescape, and an error for a name that a template does not get."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([*([folder] if folder else []), TEMPLATES])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"json": as_script, "number": shown, "uris": uris}
    found.globals["is_number"] = is_number
    return found


def policy(scripts: Sequence[bytes]) -> str:
    """The content security policy: only these scripts, nothing from elsewhere.

    plotly.js sets ``style`` attributes in the text that it draws, so inline styles are allowed. It needs no
    ``unsafe-eval``: plotly.js 4 for no trace at all, plotly.js 3 for none without WebGL (``parcoords``, ``splom``, 3-d
    have it). Its download button draws the figure from a ``blob:`` or ``data:`` image.
    """
    hashes = " ".join(f"'{digest(text)}'" for text in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def digest(script: bytes) -> str:
    """The hash of a script for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script).digest()).decode()


@cache
def asset(name: str) -> str:
    """A file of ``figures/assets``."""
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def plotly_js() -> bytes:
    """plotly.js as the installed package brings it; plotly itself is not imported, which would take a second.

    Raises:
        ModuleNotFoundError: plotly is not installed.
    """
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("plotly draws the pages; pip install plotly")
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()


def as_script(data: Any) -> Any:
    """JSON for a script element, escaped so that no data can end the element."""
    from markupsafe import Markup

    text = json.dumps(clean(data), separators=(",", ":"), ensure_ascii=False)
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for character, written in escapes.items():
        text = text.replace(character, written)
    return Markup(text.encode("utf-8", "replace").decode())


def clean(value: Any) -> Any:
    """The value with everything that JSON cannot hold replaced by ``null``, and keys as text."""
    if isinstance(value, dict):
        return {str(key): clean(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def shown(value: Any) -> str:
    """A number formatted for reading, or text.

    >>> shown(0.123456), shown(12345), shown(None), shown(3.2e-05)
    ('0.1235', '12,345', '', '3.2e-05')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def is_number(rows: Sequence[Sequence[Any]], column: int) -> bool:
    """Whether a column of a table has a number, so that it is aligned at the right."""
    return any(isinstance(row[column], int | float) for row in rows)


def uris(gallery: Gallery) -> list[tuple[str, str, str]]:
    """The pictures of a gallery as data URIs, with their captions."""
    return [(png_uri(p), bold, more) for p, (bold, more) in zip(gallery.pixels, gallery.captions, strict=True)]


def png_uri(pixels: Any) -> str:
    """A picture, (H, W, 3) uint8, as a ``data:`` URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
