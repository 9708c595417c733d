"""One of the runs that are compared, read from its folder: no code is run, and torch is not imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltricks.config.options import called
from mltricks.config.stages import as_typed
from mltricks.report.curves import Curve, read_curves
from mltricks.report.files import read_yaml
from mltricks.summary import Summary, read_summary
from mltricks.sweep.measured import is_repeat

WHOLE = ("completed", "stopped_early")
"""The statuses of runs whose scores are compared; the others did not train to their end."""
NO_PART = (
    *("name", "tags", "notes", "resume", "overwrite", "show", "progress", "plots", "tracker", "job", "checkpoint"),
    *("input", "allow_modules", "log_every", "checkpoint_every_steps", "eval_batch_size"),
    *("data.root", "data.download", "data.num_workers", "stages.command"),
)
"""Settings that change no result: runs that differ in nothing else are equal."""


@dataclass(frozen=True)
class Entry:
    """A run.

    Attributes:
        folder: its output folder.
        name: the end of the folder's path that tells it from the others.
        settings: the settings that decide its result, by dotted key, without seeds and fold.
        seeds: the seeds, and the fold of a cross-validation, by dotted key.
        summary: its result; of status ``unfinished`` if it has not written one.
        curves: learning curves: ``score`` and ``val`` of the validation, ``train`` the training loss.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    seeds: dict[str, Any]
    summary: Summary
    curves: dict[str, Curve]

    @property
    def counts(self) -> bool:
        """Whether it trained to its end."""
        return self.summary.status in WHOLE

    @property
    def seed(self) -> str:
        """Its seeds in words."""
        others = [f"{key}={value}" for key, value in self.seeds.items() if key != "seed"]
        return " ".join([str(self.seeds.get("seed", "")), *others])


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """Read runs. An unfinished one, whose summary is missing, is shown by the first score that another run names.

    Raises:
        ValueError: the configuration of one cannot be read.
    """
    summaries = [read_summary(folder / "summary.json") or Summary("unfinished") for folder in folders]
    known = next((score_of(summary) for summary in summaries if score_of(summary)), "loss")
    named = zip(folders, tails(folders), summaries, strict=True)
    return [read_entry(folder, name, summary, known) for folder, name, summary in named]


def tails(folders: Sequence[Path]) -> list[str]:
    """The ends of paths, as long as it takes to tell all from each other.

    >>> tails([Path("a/b/0"), Path("a/c/0"), Path("a/c/1")])
    ['b/0', 'c/0', 'c/1']
    """
    for depth in range(1, max(len(folder.parts) for folder in folders)):
        found = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(found)) == len(folders):
            return found
    return [str(folder) for folder in folders]


def read_entry(folder: Path, name: str, summary: Summary, known: str) -> Entry:
    """One run, with its summary and the name of the score if that has none."""
    config = read_yaml(folder / "config.yaml")
    if not isinstance(config, dict):
        raise ValueError(f"{folder}/config.yaml is damaged: it holds no configuration. Leave this run out.")
    found = {as_typed(f"{key}=").removesuffix("="): value for key, value in leaves(config)}
    found["technique"] = "+".join(config.get("technique") or {}) or "none"  # their order is part of the step
    return Entry(
        folder,
        name,
        {key: value for key, value in found.items() if not is_repeat(key) and not without_effect(key)},
        {key: value for key, value in found.items() if is_repeat(key) and value is not None},
        summary,
        read_curves(folder / "metrics.jsonl", score_of(summary) or known),
    )


def score_of(summary: Summary) -> str:
    """The metric that steered the run, without its split; empty if unknown."""
    return str(summary.objective.get("name") or "").rpartition("/")[2]


def leaves(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a configuration; the class of an option stands at the option's own key, as its name."""
    for key, value in node.items():
        whole = f"{path}{key}"
        if isinstance(value, dict) and value:
            if value.get("_target_"):
                yield whole, called({"_target_": value["_target_"]})  # a name is an entry of its own
            yield from leaves({k: v for k, v in value.items() if k != "_target_"}, f"{whole}.")
        else:
            yield whole, json.dumps(value) if isinstance(value, list | dict) else value


def without_effect(key: str) -> bool:
    """Whether a setting changes no result.

    >>> [without_effect(key) for key in ("plots", "tracker.project", "data.root", "data.limit", "model.name")]
    [True, True, True, False, False]
    """
    return any(key == name or key.startswith(f"{name}.") for name in NO_PART)
