"""Going on with a run: its configuration, and which overrides may be given besides.

The state of a run belongs to its configuration: another learning rate would make the steps so far those of another run.
So the configuration is the one that was saved, and only what decides where and how the rest is computed and reported
may be changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks import checkpoint
from mltricks.checkpoint import LAST
from mltricks.config.compose import plain
from mltricks.config.options import GROUPS
from mltricks.config.overrides import TECHNIQUE_GROUPS, parse
from mltricks.summary import Summary, read_summary

FREE = (
    *("device", "deterministic", "engine", "data.root", "data.download", "data.num_workers", "eval_batch_size"),
    *("tracker", "progress", "plots", "log_every", "checkpoint_every_steps", "show", "job", "resume", "allow_modules"),
    *("checkpoint", "input"),
)
"""What may be changed: none of it enters the arithmetic of a step. Sums may still be rounded otherwise elsewhere."""
WHOLE = ("completed", "stopped_early", "pruned")
"""Outcomes after which there is nothing to go on with."""
SCHEDULED = "the schedules stretch over the length of the run, so the steps so far would have been others"


def resumed_config(cfg: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration with which the run in ``cfg.resume`` goes on.

    Args:
        cfg: composed from the command line.
        overrides: of the command line.

    Raises:
        ValueError: the folder holds no run, or an override would change the run that was made so far.
    """
    folder, given = Path(cfg.resume), plain(cfg)
    saved = saved_config(folder)
    trust(saved, given["allow_modules"], f"resume={folder}")
    changes = {**saved, "allow_modules": given["allow_modules"]}
    for override in parse(overrides):
        for path, (mine, theirs) in touched(override, given, saved).items():
            if not is_free(path):
                reason = SCHEDULED if path in ("epochs", "max_steps") else "the steps so far would have been others"
                raise ValueError(
                    f"{override.input_line} cannot be given with resume={folder}: {path} was {theirs} there, not "
                    f"{mine}, and {reason}. Leave it out, or start a new run."
                )
        if is_free(override.key_or_group):
            assign(changes, override.key_or_group, given)
    if finished(folder) is not None:
        print(f"{folder} is complete: there is nothing to go on with")
    return {**changes, "resume": None}


def saved_config(folder: Path) -> dict[str, Any]:
    """The configuration of the run in a folder: its checkpoint's or, where there is none yet, the one it began with.

    Raises:
        ValueError: it is no folder of a run, or the checkpoint is damaged.
    """
    from omegaconf import OmegaConf

    if (folder / LAST).is_file():
        saved, record = checkpoint.load_config(folder / LAST), folder / "config.yaml"
        other = differences(plain(OmegaConf.load(record)), saved) if record.is_file() else {}
        for path, (mine, theirs) in other.items():
            if not is_free(path):
                raise ValueError(
                    f"{folder / LAST} belongs to another run: {path} is {theirs} in it and {mine} in {record}. "
                    "Put the run's own checkpoint back."
                )
        return saved

    for name in ("config.yaml", ".hydra/config.yaml"):
        if (folder / name).is_file():
            return plain(OmegaConf.load(folder / name))
    raise ValueError(
        f"resume={folder}: there is no run in it. Give the output folder of a run, which holds config.yaml."
    )


def finished(folder: Path) -> Summary | None:
    """The summary of the run in a folder where it is over, else ``None``."""
    summary = read_summary(folder / "summary.json")
    return summary if summary is not None and summary.status in WHOLE else None


def trust(saved: dict[str, Any], allow: Sequence[str], what: str) -> None:
    """Refuse a saved configuration that lets classes of packages be named which nobody allowed here and now.

    Raises:
        ValueError: says what to type where they are trusted.
    """
    unknown = sorted(allowed_anywhere(saved) - set(allow))
    if unknown:
        listed = ",".join([*allow, *unknown])
        raise ValueError(
            f"{what} names classes of {', '.join(unknown)}. If you trust it, type allow_modules=[{listed}]."
        )


def allowed_anywhere(tree: Any) -> set[str]:
    """The packages in every ``allow_modules`` of a configuration: techniques may have one of their own."""
    if not isinstance(tree, dict):
        return set()
    return set(tree.get("allow_modules") or []).union(*map(allowed_anywhere, tree.values()))


def touched(override: Any, mine: dict[str, Any], saved: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where an override makes the configuration differ from the saved one, as ``{path: (mine, saved)}``."""
    key = override.key_or_group
    if key == "experiment" or override.is_delete():
        return {path: pair for path, pair in differences(mine, saved).items() if not is_free(path)}
    root = "technique" if key in TECHNIQUE_GROUPS else key
    inside = {
        p: pair
        for p, pair in differences(mine, saved).items()
        if f"{p}.".startswith(f"{root}.") or root.startswith(f"{p}.")
    }
    return {p: pair for p, pair in inside.items() if key not in GROUPS or not is_free(p)}


def differences(mine: dict[str, Any], saved: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ, as ``{path: (mine, saved)}``; the order of the techniques counts.

    >>> differences({"optim": {"lr": 0.1}, "seed": 0}, {"optim": {"lr": 0.2}, "seed": 0})
    {'optim.lr': (0.1, 0.2)}
    """
    a, b = dict(_leaves(json.loads(json.dumps(mine)))), dict(_leaves(saved))
    found = {path: (a.get(path), b.get(path)) for path in {**a, **b} if a.get(path) != b.get(path)}
    orders = [list(cfg.get("technique", {})) for cfg in (mine, saved)]
    if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
        found["technique"] = (orders[0], orders[1])
    return found


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif value != {}:
            yield f"{prefix}{key}", value


def is_free(path: str) -> bool:
    """Whether a setting may be changed when a run goes on."""
    return any(path == free or path.startswith(f"{free}.") for free in FREE)


def assign(target: dict[str, Any], path: str, source: dict[str, Any]) -> None:
    """Copy the value at a dotted path from one nested dict into another, without changing parts that are shared."""
    first, _, rest = path.partition(".")
    if rest:
        target[first] = dict(target[first])
        assign(target[first], rest, source[first])
    else:
        target[first] = source[first]
