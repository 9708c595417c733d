"""``--help`` and ``--version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import mltricks
from mltricks.config.cards import hung, read_card
from mltricks.config.options import GROUPS, conf_dir
from mltricks.config.settings import default_options

WIDTH = 80
COMMANDS = (
    ("", "train on the embedded digits"),
    ("data=mnist technique=mixup+ema optim.lr=3e-3", "choose options, and their settings"),
    ("technique=mixup+ema show=true", "print the composed step instead of running it"),
    ("job=list group=technique", "list the options of a group"),
    ("job=explain technique=mixup optim.lr=", "explain options and settings"),
    ("resume=outputs/DATE/TIME epochs=20", "continue a run, or train it longer"),
    ("job=evaluate checkpoint=outputs/DATE/TIME", "measure its best weights again"),
    ("job=predict checkpoint=outputs/DATE/TIME input=FILE", "predict for files of yours"),
    ("-m technique=none,mixup,mixup+ema seed=0,1,2", "a sweep: every combination, one page"),
    ("-m hydra/sweeper=study tune=optim.lr n_trials=20", "a search over the range of a setting"),
)
"""The commands that people need, and what they do."""


def help_text() -> list[str]:
    """The lines of ``--help``, at most 80 characters wide."""
    return [
        "mltricks trains neural networks: every technique is one override away.",
        "",
        "usage: python -m mltricks [-m] [GROUP=OPTION ...] [KEY=VALUE ...]",
        "",
        *(line for words, what in COMMANDS for line in (f"  python -m mltricks {words}".rstrip(), f"      {what}")),
        "",
        "Groups, each with its default (job=list shows all options):",
        *(line for group in GROUPS for line in hung(f"  {group:<12} ", described(group), WIDTH)),
        "",
        "Sweeps: -m runs a job for every combination of comma-separated values.",
        *(line for path in sweepers() for line in hung(f"  hydra/sweeper={path:<9} ", sweepers()[path], WIDTH)),
        "  Typed again after a kill, a sweep continues where it stopped.",
        "",
        "  a+b joins names to a list, none is the empty one: technique=mixup+ema",
        "  A setting of a job, sweeper or launcher needs no prefix: n_trials=20",
        "",
        "Other flags: --version; --cfg job (print the configuration); --config-dir DIR",
        "  (options of your own); --hydra-help; -sc install=bash (or zsh, fish: tab",
        "  completion). Status: 0 done, 1 refused or failed, 75 and 130 interrupted.",
        "Read on: docs/index.md of the repository, and README.md.",
    ]


def described(group: str) -> str:
    """What a group is, with its default option."""
    default = default_options().get(group)
    return GROUPS[group] + (f" ({default})" if default else "")


def sweepers() -> dict[str, str]:
    """Our sweepers, with what each does."""
    return {path.stem: read_card(path).what for path in sorted((conf_dir() / "hydra/sweeper").glob("[a-z]*.yaml"))}


def version_text() -> str:
    """The version of mltricks and of what its results depend on most."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "not installed"
    return f"mltricks {mltricks.__version__} (torch {torch}, Python {platform.python_version()})"
