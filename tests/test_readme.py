"""Run every example of the README and the docs: write its files and execute its commands, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:^`(my_\S+\.yaml)`:\n\n)?^```(bash|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS_DATA = {"experiment=baseline": "MNIST", "data=cifar10": "cifar-10-batches-py", "data=text": "text"}


def data_root() -> Path:
    return Path(os.environ.get("MLTRICKS_DATA", ROOT / "data")).resolve()


def run(command: list[str] | str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "MLTRICKS_DATA": str(data_root()), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    shell = isinstance(command, str)
    return subprocess.run(command, shell=shell, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)


ELSEWHERE = ("benchmarks", "launchers")
"""Documents whose commands are run elsewhere, on less data: by test_benchmarks.py and test_other_launchers.py."""
DOCUMENTS = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md") if p.stem not in ELSEWHERE)]


@pytest.mark.slow
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if BLOCK.search((ROOT / name).read_text())])
def test_every_block_runs(document: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / document).read_text())
    for name, language, text in blocks:
        if name or (language == "python" and text.startswith("# my_")):
            path = tmp_path / (name or text.splitlines()[0].removeprefix("# "))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)  # whole, as a reader copies it
    for _, language, text in blocks:
        if language == "python" and not text.startswith("# my_"):
            done = run([sys.executable, "-c", text], tmp_path)
            assert done.returncode == 0, f"{text}\n{done.stderr}"
        for command in text.splitlines() if language == "bash" else []:
            missing = [f for word, f in NEEDS_DATA.items() if word in command and not (data_root() / f).exists()]
            if not missing:
                done = run(command, tmp_path)
                assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_pictures_of_the_readme_exist() -> None:
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).stat().st_size > 1000
