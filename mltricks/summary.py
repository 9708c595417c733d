"""What is said of a run when it is over: the content of ``summary.json``."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mltricks.atomic import write_atomically


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        status: ``completed``, ``stopped_early``, ``pruned``, ``diverged``, ``interrupted`` or ``failed``.
        steps: updates made.
        epochs: passes over the training split, whole ones.
        seconds: spent training and validating, over restarts.
        train: the last training record's metrics.
        val: metrics of the weights that were kept, the best on validation.
        test: metrics of the same weights on the test split, read once; empty where the run did not end.
        objective: ``{"name", "value", "direction"}``: what a sweep optimises, by ``maximize`` or ``minimize``.
        overrides: the command's.
        versions: of mltricks, torch and python.
        device: what it ran on.
        git: commit of the working directory, and whether it was changed; ``null`` outside a repository.
        folder: the output folder.
        error: the message, where the run failed or diverged.
        signal: number of the signal that interrupted the run.
    """

    status: str
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    train: dict[str, float] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    git: dict[str, Any] | None = None
    folder: str = ""
    error: str | None = None
    signal: int | None = None

    def write(self, path: Path) -> None:
        """Write the summary as JSON, atomically; what is not a finite number becomes ``null``."""
        text = json.dumps(json_safe(asdict(self)), indent=2) + "\n"
        write_atomically(path, lambda partial: partial.write_text(text))


def read_summary(path: Path) -> Summary | None:
    """The summary in a file, or ``None`` where there is none that can be read."""
    try:
        content = json.loads(path.read_text())
        return Summary(**{f.name: content[f.name] for f in fields(Summary) if f.name in content})
    except (OSError, ValueError, TypeError):
        return None


def json_safe(value: Any) -> Any:
    """The value with NaN and infinities replaced by ``None``, which strict JSON readers accept."""
    if isinstance(value, dict):
        return {key: json_safe(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it was changed, or ``None`` outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
