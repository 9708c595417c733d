"""The site of the documentation: it builds without a warning, loads nothing from elsewhere, and covers every option."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from documents import PLAIN, ROOT, blocks_of, commands_of

from mltricks.about.reference import reference_pages
from mltricks.config.cards import read_cards
from mltricks.config.options import GROUPS, SWEEPS, conf_dir
from mltricks.config.settings import HINTS, top_level

LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\s(?:src|href)="?([^"\s>]+)""")
"""What a page names in a tag that loads it; links to other pages are no such tags."""
IN_CSS = re.compile(r"""(?:@import|url\()\s*["']?(https?:[^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it, where no connection can be made."""
    folder = tmp_path_factory.mktemp("site")
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "127.0.0.1:9", "https_proxy": "127.0.0.1:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    loaded = {name for page in pages for name in LOADED.findall(page.read_text())}
    assert any(name.endswith(".css") for name in loaded)
    assert any(name.endswith(".js") for name in loaded)
    assert not [name for name in loaded if re.match(r"(https?:)?//", name)]
    assert not [found for sheet in site.rglob("*.css") for found in IN_CSS.findall(sheet.read_text())]


@pytest.mark.slow
def test_braces_of_a_card_are_on_the_site(site: Path) -> None:
    for group, cards in read_cards([conf_dir()]).items():
        page = html.unescape((site / f"reference/options/{group.rpartition('/')[2]}.html").read_text())
        braces = [part for card in cards for *_, meaning in card.values for part in re.findall(r"\{[^}]+\}", meaning)]
        assert [part for part in braces if part not in page] == []


@pytest.mark.slow
def test_every_option_has_a_card_on_the_site(site: Path) -> None:
    for group, cards in read_cards([conf_dir()]).items():
        page = (site / f"reference/options/{group.rpartition('/')[2]}.html").read_text()
        assert [card.name for card in cards if f'id="{card.name}"' not in page] == []


def test_the_reference_has_every_key() -> None:
    pages = reference_pages([conf_dir()])
    nested = {f"{key}.{name}" for key, value in top_level().items() if isinstance(value, dict) for name in value}
    keys = {key for key, value in top_level().items() if not isinstance(value, dict)} | nested
    missing = [key for key in keys if f"| `{key}` |" not in pages["keys.md"]]
    assert missing == []
    assert [group for group in (*GROUPS, *SWEEPS) if f"## {group}\n" not in pages["options/index.md"]] == []
    for cards in read_cards([conf_dir()], ["job", *SWEEPS]).values():
        for card in cards:
            page = pages[f"options/{card.group.rpartition('/')[2]}.md"]
            names = [key.removeprefix(f"{card.group.replace('/', '.')}.") for key, _, _ in card.values]
            assert [name for name in names if f"{name}` |" not in page] == []


def test_the_reference_states_the_ranges_that_are_checked() -> None:
    keys = reference_pages([conf_dir()])["keys.md"]
    assert "| `epochs` | `10` | passes over the training split, >= 1 | >= 1 |" in keys
    assert "auto \\| bar \\| lines \\| none" in keys
    assert set(HINTS) <= set(re.findall(r"^\| `([\w.]+)` \|", keys, re.MULTILINE)) | {
        "precision.dtype",
        "precision.tf32",
    }


@pytest.mark.parametrize("page", sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")))
def test_every_block_has_a_language(page: str) -> None:
    text = (ROOT / page).read_text()
    assert [block.text for block in blocks_of(text) if not block.language] == []


def test_no_command_has_a_sign_that_zsh_expands() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    blocks = [block for page in pages for block in blocks_of(page.read_text()) if block.language == "bash"]
    cards = [card for group in read_cards([conf_dir()], [*GROUPS, *SWEEPS]).values() for card in group]
    commands = [*(c for block in blocks for c in commands_of(block.text)), *(card.command for card in cards)]
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", command) for command in commands]
    assert len(bare) > 200
    assert [command for command in bare if re.search(r"[][(){}*?~^|]", command)] == []


@pytest.mark.slow
def test_the_notebook_runs_from_start_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "docs/notebooks/first_steps.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is committed without outputs"
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert (tmp_path / "multirun/rates/sweep.html").is_file()
    assert "0.01" in str(notebook.cells[-1].outputs)


def test_a_block_is_found_in_a_list_and_a_line_may_continue() -> None:
    page = "1. a\n\n    ```bash\n    python -m mltricks \\\n      epochs=1\n    # no command\n    ls\n    ```\n"
    [block] = blocks_of(page)
    first, second = commands_of(block.text)
    assert (first.split(), second) == (["python", "-m", "mltricks", "epochs=1"], "ls")
    assert PLAIN.fullmatch(first)
