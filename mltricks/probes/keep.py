"""The output of a probe: ``<name>.json``, a picture, and ``summary.json``, which marks it as finished for a sweep.

The summary names no objective, because a probe's measurements are not comparable with training scores; that of
``sharpness``, which compares finished runs, names the measure that a sweep shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mltricks.build import Run
from mltricks.checkpoint import versions
from mltricks.figures.base import Figure
from mltricks.figures.still import save
from mltricks.observers.formats import shown_folder
from mltricks.process.atomic import write_atomically
from mltricks.summary import Summary, git_state, json_safe


def keep(
    name: str,
    run: Run,
    content: dict[str, Any],
    draw: Callable[[dict[str, Any]], Figure],
    folder: Path,
    overrides: Sequence[str],
    quiet: bool = False,
) -> None:
    """Write the measurements and print the verdict.

    Args:
        name: name of the probe.
        run: the measured run.
        content: content of the JSON file, with ``verdict``, ``reason``, ``advice``, ``steps`` and ``seconds``.
        draw: makes the figure from ``content``.
        folder: the output folder.
        overrides: the overrides of the command.
        quiet: print nothing; used in a sweep, which prints a line per job.
    """
    facts = {"steps_per_epoch": run.source.steps_per_epoch, "batch_size": run.cfg["batch_size"]}
    write(name, {**content, **facts}, str(run.device), draw, folder, overrides, quiet)


def write(
    name: str,
    content: dict[str, Any],
    device: str,
    draw: Callable[[dict[str, Any]], Figure],
    folder: Path,
    overrides: Sequence[str],
    quiet: bool = False,
    objective: dict[str, Any] | None = None,
) -> None:
    """The same for a probe that builds no run.

    Args:
        device: that of the measurements.
        objective: of the summary, as ``{"name", "value", "direction"}``.
    """
    content = {"job": name, **content, "overrides": list(overrides)}
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / f"{name}.json", lambda partial: partial.write_text(text))
    save(draw(content), folder / f"{name}.png")
    summary = Summary(
        "completed",
        steps=content["steps"],
        seconds=content["seconds"],
        overrides=list(overrides),
        versions=versions(),
        device=device,
        git=git_state(),
        folder=str(folder),
        objective=objective or {},
    )
    summary.write(folder / "summary.json")
    if not quiet:
        say(name, content, folder)


def say(name: str, content: dict[str, Any], folder: Path) -> None:
    """Print the verdict, the advice and the path of the numbers."""
    print(f"{name}: {content['verdict']}. {content['reason']}")
    for line in content["advice"]:
        print(f"  {line}")
    print(shown_folder(folder / f"{name}.json"))
