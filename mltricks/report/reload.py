"""A page that loads itself again, for a sweep that is watched."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

SCRIPT = Path(__file__).parent / "assets" / "watch.js"


def reloading(page: bytes, seconds: int) -> bytes:
    """The page with what makes it load itself again, and with a script that keeps its filters.

    Args:
        page: the document; its content security policy gets the hash of the script.
        seconds: after which it is loaded again.
    """
    script = SCRIPT.read_bytes()
    digest = base64.b64encode(hashlib.sha256(script).digest())
    page = page.replace(b"script-src ", b"script-src 'sha256-" + digest + b"' ", 1)
    page = page.replace(b"<head>", b'<head><meta http-equiv="refresh" content="%d">' % seconds, 1)
    body, _, rest = page.rpartition(b"</body>")
    return body + b"<script>" + script + b"</script></body>" + rest
