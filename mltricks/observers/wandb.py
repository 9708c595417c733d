"""Weights & Biases: configuration, curves, plots and result. Its failures do not stop a run.

Source: https://docs.wandb.ai; settings as of wandb 0.31.
Deviation: every run is separate (``reinit="create_new"``), so that the runs of a sweep in one process are not
merged, and trials that train at the same time do not end each other.
"""

from __future__ import annotations

import functools
import netrc
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from mltricks.config.values import Positive, check_fields
from mltricks.observers.base import Observer, Record
from mltricks.observers.formats import shown_folder
from mltricks.observers.tensorboard import curves

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

FINISH_TIMEOUT_S = 120.0
"""Longest wait for the upload at the end of a run; what is not sent by then is in the output folder."""


RESULT = ("status", "steps", "epochs", "seconds", "objective", "device", "error")


@dataclass
class Wandb(Observer):
    """Logs a run.

    Args:
        project: project that the run is put into.
        entity: user or team; ``None`` for the account's default.
        group: group of the run; ``None`` for the name of the sweep's folder, in a sweep.
        name: name of the run; ``None`` for its output folder's name.
        tags: tags of the run.
        mode: ``online``, ``offline`` or ``disabled``; ``auto`` is online if there is an API key.
        init_timeout_s: seconds to wait for the server, > 0.

    Raises:
        ValueError: the package is not installed, or a setting is wrong.
    """

    project: str
    entity: str | None
    group: str | None
    name: str | None
    tags: list[str]
    mode: Literal["auto", "online", "offline", "disabled"]
    init_timeout_s: Positive
    logged: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        from importlib.util import find_spec

        check_fields(self, "tracker.")
        if find_spec("wandb") is None:
            raise ValueError("tracker=wandb needs the package wandb. Type: pip install wandb")

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        self.folder = folder
        mode, remark = choose_mode(self.mode)
        for attempt in (mode, "offline") if mode == "online" else (mode,):
            try:
                self.logged = self._begin(run.cfg, attempt, resumed_at)
                break
            except Exception as error:
                remark = f"no run could be started ({reason(error)})"
        if remark:
            sweep = sweep_folder(folder)
            where = f"{shown_folder(sweep)}/*" if sweep else shown_folder(folder)
            recorded = f"recorded offline, wandb sync {where}/wandb/offline-run-* sends it"
            say_once(f"{remark}; {recorded if self.logged else 'training goes on without it'}")

    def _begin(self, cfg: dict[str, Any], mode: Any, resumed_at: int) -> Any:
        import wandb

        sweep = sweep_folder(self.folder)
        settings = wandb.Settings(
            init_timeout=self.init_timeout_s,
            login_timeout=self.init_timeout_s,
            finish_timeout=FINISH_TIMEOUT_S,
            console="off",
            silent=True,
            x_disable_stats=True,
            disable_git=True,
            save_code=False,
            reinit="create_new",
        )
        before = last_id(self.folder) if resumed_at else None
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group or (sweep.name if sweep else None),
            job_type="trial" if sweep else "train",
            name=self.name or (f"{int(self.folder.name):03d}" if self.folder.name.isdigit() else self.folder.name),
            tags=self.tags or None,
            config=cfg,
            dir=str(self.folder),
            mode=mode,
            id=before,
            resume="allow" if before else None,
            settings=settings,
        )

    def record(self, record: Record) -> None:
        self._attempt(lambda: self.logged.log({**curves(record), "epoch": record["epoch"]}, step=record["step"]))

    def finish(self, summary: Summary) -> None:
        self._attempt(lambda: self._log_result(summary))
        done = summary.status in ("completed", "stopped_early", "pruned")
        self._attempt(lambda: self.logged.finish(exit_code=0 if done else 1))
        self.logged = None

    def _log_result(self, summary: Summary) -> None:
        import wandb

        pictures = {f"plots/{p.stem}": wandb.Image(str(p)) for p in sorted((self.folder / "plots").glob("*.png"))}
        if pictures:
            self.logged.log(pictures, step=summary.steps)
        said = {k: v for k, v in asdict(summary).items() if k in RESULT}
        metrics = {f"{split}/{n}": v for split in ("train", "val", "test") for n, v in getattr(summary, split).items()}
        self.logged.summary.update({**said, **metrics})

    def _attempt(self, do: Callable[[], Any]) -> None:
        """Call ``do`` if there is a run; on an error print a message and stop logging."""
        try:
            if self.logged is not None:
                do()
        except Exception as error:
            say(f"stopped ({reason(error)}); training goes on")
            self.logged = None


def choose_mode(wanted: str) -> tuple[Any, str]:
    """The mode for wandb, and a message about it."""
    if wanted == "auto" and os.environ.get("WANDB_MODE"):
        wanted = os.environ["WANDB_MODE"]
    if wanted in ("auto", "online"):
        return ("online", "") if has_key() else ("offline", "no API key found (WANDB_API_KEY, or wandb login)")
    return wanted, ""


def has_key() -> bool:
    """Whether there is an API key, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(str(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def sweep_folder(folder: Path) -> Path | None:
    """The folder of the sweep that an output folder belongs to: the one in which Hydra left ``multirun.yaml``."""
    return next((parent for parent in list(folder.resolve().parents)[:4] if (parent / "multirun.yaml").is_file()), None)


def last_id(folder: Path) -> str | None:
    """The id of the run that was logged from this folder before."""
    found = [path.name.rpartition("run-")[2] for path in (folder / "wandb").glob("*run-*-*") if path.is_dir()]
    return max(found).rpartition("-")[2] if found else None  # names begin with date and time


def reason(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__


@functools.cache
def say_once(text: str) -> None:
    """Print a message once for all trials of a sweep."""
    say(text)


def say(text: str) -> None:
    print(f"tracker=wandb: {text}", file=sys.stderr)
