"""Figures, tables and artifacts of a W&B run; used by the process that sends.

Legend: N pictures, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def log_plots(run: Any, folder: Path, step: int) -> None:
    """Log the figures of ``plots/``: interactive where there is data, ``NAME.json``, else the picture, ``NAME.png``."""
    import wandb

    figures = {path.stem: path for path in sorted(folder.glob("*.json"))}
    found: dict[str, Any] = {f"plots/{name}": wandb.Plotly(read_figure(path)) for name, path in figures.items()}
    pictures = [path for path in sorted(folder.glob("*.png")) if path.stem not in figures]
    found |= {f"plots/{path.stem}": wandb.Image(str(path)) for path in pictures}
    if found:
        run.log(found, step=step)


def read_figure(path: Path) -> Any:
    """A figure of ``plots/`` as plotly's; plotly is imported here, at the end of a run."""
    import plotly.graph_objects

    return plotly.graph_objects.Figure(json.loads(path.read_text(encoding="utf-8")), skip_invalid=False)


def log_table(run: Any, step: int, name: str, columns: dict[str, Sequence[Any]], pixels: Any | None) -> None:
    """Log a table.

    Args:
        run: of W&B.
        step: at which it is logged.
        name: of the table.
        columns: values by heading, N each.
        pixels: (N, H, W, 3) uint8, the pictures of the first column; ``None``: there are none.
    """
    import wandb

    pictures = {} if pixels is None else {"image": [wandb.Image(picture) for picture in pixels]}
    whole = {**pictures, **columns}
    rows = [list(row) for row in zip(*whole.values(), strict=True)]
    run.log({name: wandb.Table(columns=list(whole), data=rows)}, step=step)


def log_model(run: Any, path: str, name: str | None, metadata: dict[str, Any]) -> None:
    """Log weights as a version of the artifact ``name`` of type ``model``, with the aliases ``best`` and ``latest``."""
    import wandb

    artifact = wandb.Artifact(name or f"model-{run.id}", type="model", metadata=metadata)
    artifact.add_file(path, name=Path(path).name)
    run.log_artifact(artifact, aliases=["best", "latest"])


def log_source(run: Any, files: Sequence[tuple[str, str]]) -> None:
    """Log the user's own code as an artifact of type ``source``; ``files`` are pairs of a path and a name.

    wandb keeps the type ``code`` to itself: its ``log_code`` walks a whole folder.
    """
    import wandb

    artifact = wandb.Artifact(f"source-{run.id}", type="source")
    for path, name in files:
        artifact.add_file(path, name=name)
    run.log_artifact(artifact)
