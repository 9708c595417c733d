"""The process that sends to W&B: reads pickled messages from its input, and reports in lines of JSON.

It imports neither torch nor the rest of mltricks.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from mltricks.observers.wandb_sender import media

Report = Callable[[str, str, str], None]


def main() -> None:
    """Serve until the input ends, after everything else that wants the cores."""
    os.nice(10)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no report

    def report(run: str, kind: str, text: str) -> None:
        with suppress(OSError):  # the training process was killed; its runs are finished all the same
            print(json.dumps([run, kind, text]), file=out, flush=True)

    serve(sys.stdin.buffer, report)


def serve(messages: BinaryIO, report: Report) -> None:
    """Execute messages until the input ends, then finish the runs that were cut off."""
    runs: dict[str, Any] = {}
    while True:
        try:
            what, key, content = pickle.load(messages)
        except (EOFError, pickle.UnpicklingError):
            break
        try:
            HANDLERS[what](runs, key, report, **content)
        except Exception as error:
            report(key, "error", reason(error))
            give_up(runs, key)
    for key in list(runs):
        give_up(runs, key)


def give_up(runs: dict[str, Any], key: str) -> None:
    """Finish a run whose training process ended, or which had an error."""
    with suppress(Exception):
        runs.pop(key).finish(exit_code=1)


def begin(
    runs: dict[str, Any],
    key: str,
    report: Report,
    modes: Sequence[str],
    settings: dict[str, Any],
    defined: Sequence[dict[str, Any]],
    inputs: Sequence[str],
    source: Sequence[tuple[str, str]],
    **arguments: Any,
) -> None:
    """Start a run in the first mode that works; report why an earlier one did not."""
    import wandb

    os.environ["WANDB_DATA_DIR"] = str(Path(key) / "wandb")  # artifacts wait for their upload beside the run
    for mode in modes:
        try:
            made = wandb.Settings(**settings)
            runs[key] = run = wandb.init(dir=key, mode=mode, settings=made, **arguments)  # type: ignore[arg-type]
            break
        except Exception as error:
            if mode == modes[-1]:
                raise
            report(key, "offline", f"no run could be started ({reason(error)})")
    remove_links(Path(key) / "wandb")
    for metric in defined:
        run.define_metric(**metric)
    parts: list[Callable[[], Any]] = [lambda: media.log_source(run, source)] if source else []
    if not run.settings._offline:
        parts += [partial(run.use_artifact, name.removeprefix("wandb:")) for name in inputs]
    each([*parts, import_for_media], key, report)


def import_for_media() -> None:
    """Import what figures and tables need, so that the end of a run does not wait: seconds on a busy machine.

    wandb asks pandas about every value that it logs, where pandas is installed.
    """
    for name in ("pandas", "PIL.Image", "plotly.graph_objects"):
        if find_spec(name.partition(".")[0]) is not None:
            import_module(name)


def remove_links(folder: Path) -> None:
    """Remove wandb's links to its logs in the user's cache: a run's folder with links out of it is not resumed."""
    home = folder.resolve()
    for path in folder.glob("**/*.log"):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            path.unlink()


def log(runs: dict[str, Any], key: str, report: Report, row: dict[str, Any], step: int) -> None:
    if key in runs:
        runs[key].log(row, step=step)


def summary(runs: dict[str, Any], key: str, report: Report, values: dict[str, Any]) -> None:
    if key in runs:
        runs[key].summary.update(values)


def finish(
    runs: dict[str, Any],
    key: str,
    report: Report,
    step: int,
    values: dict[str, Any],
    exit_code: int,
    plots: str | None,
    table: dict[str, Any] | None,
    model: dict[str, Any] | None,
) -> None:
    """Send what a run ends with, and close it."""
    if key not in runs:
        return
    run = runs[key]
    os.environ["WANDB_DATA_DIR"] = str(Path(key) / "wandb")
    parts: list[Callable[[], Any]] = [lambda: run.summary.update(values)]
    if plots is not None:
        parts.append(lambda: media.log_plots(run, Path(plots), step))
    if table is not None:
        parts.append(lambda: media.log_table(run, step, **table))
    if model is not None:
        parts.append(lambda: media.log_model(run, **model))
    each(parts, key, report)
    run.finish(exit_code=exit_code)
    del runs[key]
    report(key, "ended", "")


def each(parts: Sequence[Callable[[], Any]], key: str, report: Report) -> None:
    """Call every function; report the error of one and go on with the next."""
    for part in parts:
        try:
            part()
        except Exception as error:
            report(key, "remark", f"a part was not sent ({reason(error)})")


HANDLERS: dict[str, Callable[..., None]] = {"begin": begin, "log": log, "summary": summary, "finish": finish}


def reason(error: BaseException) -> str:
    """The beginning of an error on one line; errors of settings name the setting on their second."""
    return " ".join(str(error).split())[:240] or type(error).__name__
