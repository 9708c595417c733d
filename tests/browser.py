"""Pages in a real headless Chromium: opened offline, and whatever a page complains about fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; apt-get install chromium")


@contextmanager
def opened_browser() -> Iterator[Any]:
    """A browser, closed at the end."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]'")
    if CHROMIUM is None:
        pytest.skip("there is no chromium here; apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def watched(browser: Any, ignored: Sequence[str] = ("info",)) -> Iterator[Callable[..., Any]]:
    """``go(path, width, height, color_scheme="dark")`` opens a page and waits until it is drawn.

    Messages on the console, but those of the ignored types, errors, dialogs, and requests for anything but the file
    fail the test at the end.
    """
    complaints: list[str] = []
    opened = []

    def go(path: Path, width: int = 1280, height: int = 900, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        opened.append(page)
        page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}") if m.type not in ignored else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("dialog", lambda d: complaints.append(f"dialog: {d.message}"))
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn], html[data-ready]")
        complaints.extend(url for url in asked if url.startswith(("http", "ws", "ftp")))
        assert asked == [path.as_uri()], f"the page loads other files: {asked}"
        page.on("request", lambda r: complaints.append(r.url) if r.url.startswith(("http", "ws", "ftp")) else None)
        return page

    yield go
    for page in opened:
        page.close()
    assert not complaints, complaints
