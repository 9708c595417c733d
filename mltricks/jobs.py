"""The jobs: one function per value of ``job=``, of configuration, output folder, overrides and Hydra's mode."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from mltricks.config.options import conf_dir, option_folders
from mltricks.config.overrides import quoted
from mltricks.process.interrupt import EXIT_STATUS


def train(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float | None:
    """Train, and return the value that a sweeper optimises."""
    from mltricks.config.compose import with_command
    from mltricks.config.stages import stage_names
    from mltricks.observers.create import InSweep
    from mltricks.train import train as run_training

    for name in ("checkpoint", "input"):
        if cfg[name] is not None:
            raise ValueError(f"{name}={cfg[name]} has no effect on training. Type job=evaluate or job=predict with it.")
    resume = cfg.resume is not None
    if resume:
        from mltricks.resume import resumed_config

        cfg = resumed_config(cfg, overrides)
        overrides = [text.removeprefix("++") for text in overrides]  # as the user typed them
    elif stage_names(cfg["stages"]):
        cfg = with_command(cfg, [*own_searchpath(), *overrides])
    if cfg["show"]:
        show(cfg, folder)
        return None
    trial = os.environ.get("MLTRICKS_TRIAL", "")
    in_sweep = InSweep(trial) if mode == "MULTIRUN" or trial else None
    summary = run_training(cfg, folder, resume, overrides, in_sweep)
    if summary.signal is not None:
        sys.exit(EXIT_STATUS[summary.signal])
    return summary.objective["value"]


def show(cfg: Any, folder: Path) -> None:
    """Print the composed step instead of running it; of a run of stages that of each."""
    from mltricks.build import build
    from mltricks.config.compose import plain
    from mltricks.config.stages import stage_names
    from mltricks.show import describe, describe_stages

    cfg = plain(cfg)
    for line in describe_stages(cfg, folder) if stage_names(cfg["stages"]) else describe(build(cfg)):
        print(line)


def evaluate(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Measure the best weights of a run on the validation and the test split."""
    from mltricks.inference import evaluate_checkpoint

    evaluate_checkpoint(cfg, folder, overrides)


def predict(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Write the predictions of a trained model for images, arrays or the test split."""
    from mltricks.inference import predict_checkpoint

    predict_checkpoint(cfg, folder, overrides)


def soup(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Average the weights of several runs into a run folder that predicts like any other."""
    from mltricks.soup import cook

    cook(cfg, folder, overrides)


def list_options(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Print every option of every group, or of one group, with its one-line description."""
    from mltricks.config.cards import listing, read_cards
    from mltricks.config.values import suggest

    end_with_reader()
    cards = read_cards(option_folders())
    group = cfg.job.group
    if group is not None and group not in cards:
        raise ValueError(f"group={group} is no group. {suggest(str(group), cards)}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in listing(cards if group is None else {group: cards[group]}):
        print(line if width is None else f"{line[: width - 1]}…" if len(line) > width else line)


def explain(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Explain the options and keys of the command, and print nothing else."""
    from mltricks.about.explain import explained

    end_with_reader()
    if not cfg.job.key:
        print("Name what to explain: python -m mltricks job=explain technique=mixup key=optim.lr")
        print("Every option there is: python -m mltricks job=list")
    width, folders = min(shutil.get_terminal_size((110, 24)).columns, 110), option_folders()
    for i, subject in enumerate(cfg.job.key):
        print(*([""] if i else []), *explained(subject, folders, width), sep="\n")


def end_with_reader() -> None:
    """Exit quietly on SIGPIPE, when a reader such as ``head`` closes the pipe."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def own_searchpath() -> list[str]:
    """The override that names the user's folders of options, to compose further configurations; none without them."""
    own = [folder for folder in option_folders() if folder.resolve() != conf_dir().resolve()]
    return [f"hydra.searchpath=[{','.join(quoted(f'file://{folder.resolve()}') for folder in own)}]"] if own else []
