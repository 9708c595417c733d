"""What mkdocs builds besides the files of this folder: reference, list of decisions, notebook, changelog, contributing.

These pages are written when the site is built and are never committed, so they cannot be stale.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from mltricks.about.effects import effects_page
from mltricks.about.reference import reference_pages
from mltricks.config.options import conf_dir

DOCS = Path(__file__).parent
OPTIONS = "reference/options/index.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and put the groups of options into the navigation."""
    reference = {f"reference/{path}": text for path, text in reference_pages([conf_dir()]).items()}
    pages = {**reference, "decisions.md": decisions(), "effects.md": effects_page()}
    pages |= {f"{name.lower()}.md": of_root(name) for name in ("CHANGELOG", "CONTRIBUTING")}
    pages |= {f"notebooks/{path.stem}.md": of_notebook(path) for path in DOCS.glob("notebooks/*.ipynb")}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    below(config.nav, [path for path in reference if path.startswith("reference/options/") and path != OPTIONS])
    return files


def below(nav: Any, groups: list[str]) -> None:
    """Make the entry of the list of options a section, with a page for every group."""
    for section in (entry for top in nav for entry in top.values() if isinstance(entry, list)):
        for entry in (entry for entry in section if isinstance(entry, dict)):
            for title, path in entry.items():
                if path == OPTIONS:
                    entry[title] = [OPTIONS, *({Path(group).stem: group} for group in groups)]


def decisions() -> str:
    """The list of decisions: number and title of each."""
    files = sorted(DOCS.glob("decisions/0*.md"))
    titles = [path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# 0123456789.:") for path in files]
    head = "# Decisions\n\nOne page for each choice that would be expensive to reverse, with what was tried instead.\n"
    rows = [
        f"| {path.name[:4]} | [{title[0].upper()}{title[1:]}](decisions/{path.name}) |"
        for path, title in zip(files, titles, strict=True)
    ]
    return "\n".join([head, "| number | decision |", "| --- | --- |", *rows, ""])


def of_root(name: str) -> str:
    """A page at the root of the repository, with its links as the site has them."""
    return (DOCS.parent / f"{name}.md").read_text(encoding="utf-8").replace("](docs/", "](")


def of_notebook(path: Path) -> str:
    """The cells of a notebook, in order; a link to the file comes after the title."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells]
    link = f"This page is a notebook: [{path.name}]({path.name})."
    return re.sub(r"\A(# .*\n?)", rf"\1\n{link}\n", "\n\n".join(parts) + "\n")
