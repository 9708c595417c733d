"""Run every example of the README and the docs: write a page's files and execute its blocks, in order."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_server import CommandServer
from documents import PLAIN, ROOT, SHELL, blocks_of, commands_of

NEEDS_DATA = {"experiment=baseline": "MNIST", "data=cifar10": "cifar-10-batches-py", "data=text": "text"}
ELSEWHERE = ("docs/benchmarks.md", "docs/launchers.md")
"""Documents whose commands are run elsewhere, on less data: by test_benchmarks.py and test_other_launchers.py."""
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("bash", "python", "yaml")
DOCUMENTS = [
    page
    for page in PAGES
    if page not in ELSEWHERE and any(b.language in LANGUAGES for b in blocks_of((ROOT / page).read_text()))
]


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    os.environ.setdefault("MLTRICKS_DATA", str((ROOT / "data").resolve()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    server = CommandServer(environment)
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_runs(document: str, server: CommandServer, tmp_path: Path) -> None:
    blocks, folder = blocks_of((ROOT / document).read_text()), tmp_path / "here"
    folder.mkdir()
    for block in (b for b in blocks if b.file):
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)  # whole, as a reader copies it
    for block in blocks:
        if block.language == "python" and not block.file:
            assert_succeeds(server, {"code": block.text}, folder)
        for command in commands_of(block.text) if block.language == "bash" else ():
            if not missing(command):
                assert_succeeds(server, request_of(command), folder)


def request_of(line: str) -> dict[str, Any]:
    """A command as a request to the server: one that needs a shell gets a shell."""
    plain = PLAIN.fullmatch(line)
    if plain and not SHELL.search(re.sub(r"'[^']*'|\"[^\"$`]*\"", "", line)):
        return {"module": plain[1], "arguments": shlex.split(plain[2] or "")}
    return {"shell": line}


def assert_succeeds(server: CommandServer, request: dict[str, Any], folder: Path) -> None:
    """Run a block or a command in a folder, whose modules can be imported, and check that it succeeds."""
    output = folder.with_name(f"{folder.name}.out")
    environment = {**server.environment, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    status = server.run(request, folder, (output, output), environment)
    assert status == 0, f"{request}\n{output.read_text()}"


def missing(command: str) -> list[str]:
    """The data sets that a command needs and that are not here."""
    root = Path(os.environ["MLTRICKS_DATA"])
    return [name for word, name in NEEDS_DATA.items() if word in command and not (root / name).exists()]


def test_pictures_of_the_readme_exist() -> None:
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).stat().st_size > 1000
