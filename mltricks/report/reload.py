"""A page that loads itself again, for a sweep that is watched."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

SCRIPT = Path(__file__).parent / "assets" / "watch.js"


def reloading(page: str, seconds: int) -> str:
    """The page with what makes it load itself again, and with a script that keeps its filters.

    Args:
        page: the document; its content security policy gets the hash of the script.
        seconds: after which it is loaded again.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    page = page.replace("<head>", f'<head><meta http-equiv="refresh" content="{seconds}">', 1)
    body, _, rest = page.rpartition("</body>")
    return f"{body}<script>{script}</script></body>{rest}"
