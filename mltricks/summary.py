"""The content of ``summary.json``: the result of a run."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mltricks.process.atomic import write_atomically

WHOLE = ("completed", "stopped_early", "pruned")
"""Statuses of finished runs, which cannot be resumed."""


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        status: ``completed``, ``stopped_early``, ``pruned``, ``diverged``, ``interrupted`` or ``failed``.
        steps: updates made.
        epochs: complete passes over the training split.
        seconds: training and validation time, including the time before restarts.
        train: means over the last epoch; if the run ended within an epoch, since the last record.
        val: metrics of the best weights on the validation split.
        test: metrics of the same weights on the test split, measured once; empty if the run did not finish.
        samples: number of samples of ``train``, ``val`` and ``test``; empty for runs of older versions.
        trivial: metrics on ``val`` and ``test`` of the constant outputs that fit the training targets best; empty if
            the run did not finish or the objective defines none.
        epoch_of: the epoch of each split's metrics: the last one for ``train``, the one of the best weights for ``val``
            and ``test``.
        objective: ``{"name", "value", "direction"}``: the metric that a sweep optimises, by
            ``maximize`` or ``minimize``.
        overrides: the command's overrides.
        name: what the user calls the run.
        tags: labels that the user gave it.
        notes: what the user says about it.
        messages: from building the run, such as which weights came from another run.
        versions: of mltricks, torch and python.
        device: on which the run was computed.
        threads: threads of an operation on the CPU; ``null`` on another device.
        tf32: whether CUDA might round the factors of float32 products to TF32; ``null`` on another device.
        git: commit of the working directory, and whether it was changed; ``null`` outside a repository.
        folder: the output folder.
        error: the message if the run failed or diverged.
        out_of_memory: whether the run failed because the device's memory was too small.
        signal: number of the signal that interrupted the run.
        started, ended: Unix times of this start, and of the end, in seconds.
        worker: id of the process that ran it; runs of one process and time were a stack.
        num_params: number of trained parameters.
        scored_on: number of validation samples, if the objective is the share of them that is right; else ``null``.
        phases: seconds of ``load``, ``train``, ``validate`` and ``test`` since the last start; empty in a stack.
        fused: ``{"trials"}``, the number of trials in the stack that this one belonged to: rounding differs from a
            single run, and ``seconds`` is the whole stack's; ``null`` for a run trained alone.
        stages: of a run of stages, in order: name, folder below that of the run, overrides, and the main entries of
            each stage's own summary; ``taken``: another run computed it. The other entries are then those of the last
            stage, and ``seconds`` the sum of all.
    """

    status: str
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    train: dict[str, float] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    trivial: dict[str, dict[str, float]] = field(default_factory=dict)
    epoch_of: dict[str, int] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    threads: int | None = None
    tf32: bool | None = None
    git: dict[str, Any] | None = None
    folder: str = ""
    error: str | None = None
    out_of_memory: bool = False
    signal: int | None = None
    started: float | None = None
    ended: float | None = None
    worker: int | None = None
    num_params: int | None = None
    scored_on: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    fused: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[phase] = round(self.phases.get(phase, 0.0) + time.perf_counter() - start, 3)

    def write(self, path: Path) -> None:
        """Write the summary as JSON, atomically; NaN and infinities become ``null``."""
        text = json.dumps(json_safe(asdict(self)), indent=2) + "\n"
        write_atomically(path, lambda partial: partial.write_text(text))


def read_summary(path: Path) -> Summary | None:
    """The summary in a file, or ``None`` if it is missing or unreadable."""
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
    """Commit of the working directory and whether it has changes; ``None`` outside a repository. Cached."""
    return _git_state(Path.cwd())


@functools.cache
def _git_state(folder: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=5, cwd=folder
        ).stdout.strip()

    try:
        state = {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
    with suppress(OSError, subprocess.SubprocessError):  # a new module may have been run; packages are no part of it
        new = git("ls-files", "--others", "--exclude-standard", "--", ":(top)*.py", ":(exclude,top)*/site-packages/*")
        state["changed"] = state["changed"] or bool(new)
    return state
