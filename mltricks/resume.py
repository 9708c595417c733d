"""Resume a run: read its saved configuration, and check which overrides are allowed.

A run's state is the result of its configuration: with another learning rate the past steps would have been different.
So the saved configuration is used, and overrides may change only settings that decide where and how the remaining
steps are computed and reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks import checkpoint
from mltricks.checkpoint import LAST
from mltricks.config.compose import plain
from mltricks.config.newer import with_newer
from mltricks.config.options import GROUPS, TECHNIQUE_GROUPS
from mltricks.config.overrides import parse, typed
from mltricks.config.settings import top_level
from mltricks.config.stages import LIST, as_typed, stage_names
from mltricks.config.values import UnknownName, suggest
from mltricks.lengthen import LENGTH, check_larger
from mltricks.process.atomic import first_line
from mltricks.summary import WHOLE, Summary, read_summary

FREE = (
    *("device", "threads", "deterministic", "engine", "data.root", "data.path", "data.download", "data.num_workers"),
    *("tracker", "progress", "plots", "log_every", "checkpoint_every_steps", "show", "job", "resume", "allow_modules"),
    *("checkpoint", "input", "overwrite", "eval_batch_size", "name", "tags", "notes"),
)
"""Keys that may change on resume: a step does not depend on them, apart from rounding on another device."""
ASKS = re.compile(r"\$\{.*:", re.DOTALL)
"""Matches a value from an OmegaConf resolver, such as ``${oc.env:NAME}``; plain interpolations have no colon."""
OURS = ("data.root", "${oc.env:MLTRICKS_DATA,data}")
"""What ``conf/data/_common.yaml`` itself asks: it is in the record of every run that has not begun."""


def resumed_config(cfg: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration that resumes the run in ``cfg.resume``.

    Args:
        cfg: composed from the command line.
        overrides: of the command line.

    Raises:
        ValueError: the folder holds no run, or an override would change past steps.
    """
    folder, given = Path(cfg.resume), plain(cfg)
    saved = saved_config(folder)
    if job := other_job(saved):
        raise ValueError(
            f"resume={folder}: job={job} ran there, which leaves nothing to resume. Give the output folder of a run."
        )
    trust(saved, given["allow_modules"], f"resume={folder}")
    of_command = {key: given[key] for key in ("allow_modules", "job", "threads")}
    changes = {**saved, **of_command}
    for override in parse(overrides):
        check_change(override, given, saved, folder)
        if is_free(override.key_or_group) or override.key_or_group in LENGTH:
            assign(changes, override.key_or_group, given)
    if finished(folder, changes) is not None:
        print(f"{folder} is complete: there is nothing to resume")
    return {**changes, "resume": None}


def check_change(override: Any, given: dict[str, Any], saved: dict[str, Any], folder: Path) -> None:
    """Refuse an override of a resumed run that would change past steps.

    Raises:
        ValueError: says which setting, or that the run has no such setting.
    """
    text, known = as_typed(override.input_line).lstrip("+"), dict(_leaves(saved))
    if (names := stage_names(saved["stages"])) and (text.startswith("stages.") or override.key_or_group in LENGTH):
        longer = f"{typed('resume', folder / names[-1])} epochs=N"
        raise ValueError(
            f"{text} cannot be given with resume={folder}: its stages keep what they began with. To train the last one "
            f"longer, type {longer}."
        )
    for path, (mine, theirs) in touched(override, given, saved).items():
        if path == override.key_or_group and "." in path and path not in known:
            raise UnknownName(f"{text}: {path} is no setting of the run in {folder}. {suggest(path, known)}")
        if path in LENGTH:
            check_larger(text, mine, theirs, folder)
        elif not is_free(path):
            raise ValueError(
                f"{text} cannot be given with resume={folder}: {path} was {theirs} there, not {mine}, and the steps so "
                "far would have been different. Leave it out, or start a new run."
            )


def other_job(cfg: dict[str, Any]) -> str | None:
    """The function of the built-in job in a configuration, if it does not train."""
    path = cfg["job"]["_target_"]
    return path.rpartition(".")[2] if path.startswith("mltricks.") and path != "mltricks.jobs.train" else None


def saved_config(folder: Path) -> dict[str, Any]:
    """The configuration of the run in a folder: from its checkpoint or, before the first one, from ``config.yaml``.

    Raises:
        ValueError: the folder holds no run, or its checkpoint is damaged.
    """
    if (folder / LAST).is_file():
        saved, record = checkpoint.load_config(folder / LAST), folder / "config.yaml"
        written = read_config(record) if record.is_file() else saved
        for path, (mine, theirs) in differences(written, saved).items():
            if path in LENGTH:
                saved[path] = mine  # a resume that lengthens the run was interrupted
            elif not is_free(path):
                raise ValueError(
                    f"{folder / LAST} belongs to another run: {path} is {theirs} in it and {mine} in {record}. "
                    "Put the run's own checkpoint back."
                )
        return saved

    for name in ("config.yaml", ".hydra/config.yaml"):
        if (folder / name).is_file():
            return whole(read_config(folder / name), folder)
    raise no_run(folder)


def no_run(folder: Path) -> ValueError:
    return ValueError(
        f"resume={folder}: there is no run in it. Give the output folder of a run, which holds config.yaml."
    )


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a file of a run's folder.

    Raises:
        ValueError: the file is damaged, or a value would read something from this machine, such as an environment
            variable.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        cfg = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise damaged_record(path, first_line(error)) from error
    if not isinstance(cfg, DictConfig) or ("seed" not in cfg and (path.parent / LAST).is_file()):
        raise damaged_record(path, "it holds no configuration")
    for key, text in _leaves(OmegaConf.to_container(cfg, resolve=False)):  # type: ignore[arg-type]
        if ASKS.search(str(text)) and (key, text) != OURS and not key.startswith("stages."):
            raise ValueError(
                f"{path}: {key} is {text}, which asks this machine for a value. Write the value itself there, or type "
                "the run's command again."
            )
    try:
        return with_newer(plain(cfg))
    except OmegaConfBaseException as error:
        raise damaged_record(path, first_line(error)) from error


def damaged_record(path: Path, reason: str) -> ValueError:
    """The error for a damaged ``config.yaml``."""
    has_checkpoint = (path.parent / LAST).is_file()
    way = "Delete it: the checkpoint has the configuration too." if has_checkpoint else "Train again."
    return ValueError(f"{path} is damaged: {reason}. {way}")


def whole(cfg: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Check that a configuration read from a file is complete, and return it.

    Raises:
        ValueError: keys are missing.
    """
    missing = [key for key in (*top_level(), "job") if key not in cfg]
    if missing:
        raise ValueError(
            f"resume={folder}: the run had not begun when it was stopped, so there is nothing to resume (its "
            f"configuration lacks {missing[0]}). Type its command again."
        )
    return cfg


def finished(folder: Path, cfg: dict[str, Any] | None = None) -> Summary | None:
    """The summary of the run in a folder if that run is finished, else ``None``.

    Args:
        folder: of the run.
        cfg: the configuration to resume with: a run that is to be lengthened counts as unfinished.
    """
    summary = read_summary(folder / "summary.json")
    if summary is None or summary.status not in WHOLE:
        return None
    longer = (
        cfg is not None and (folder / LAST).is_file() and differs_in_length(cfg, checkpoint.load_config(folder / LAST))
    )
    return None if longer else summary


def differs_in_length(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return any(mine[key] != theirs[key] for key in LENGTH)


def check_unused(folder: Path) -> None:
    """Refuse to overwrite a run that is finished or can be resumed.

    Raises:
        ValueError: the folder holds one.
    """
    done, has_stages = finished(folder), (folder / LIST).is_file()
    if done is not None and has_stages:
        raise ValueError(
            f"{folder} holds a run that {done.status.replace('_', ' ')}, in stages. Type another hydra.run.dir, or "
            "overwrite=true."
        )
    if done is not None:
        raise ValueError(
            f"{folder} holds a run that {done.status.replace('_', ' ')}. Type another hydra.run.dir, "
            f"{typed('resume', folder)} epochs=N to train it longer, or overwrite=true."
        )
    if (folder / LAST).is_file() or has_stages:
        raise ValueError(
            f"{folder} holds a run that was stopped. Type {typed('resume', folder)} to continue it, another "
            "hydra.run.dir, or overwrite=true."
        )


def trust(saved: dict[str, Any], allow: Sequence[str], what: str) -> None:
    """Refuse a saved configuration whose ``allow_modules`` names packages that the present command does not allow.

    Raises:
        ValueError: says what to type to trust them.
    """
    unknown = sorted(allowed_anywhere(saved) - set(allow))
    if unknown:
        listed = ",".join([*allow, *unknown])
        raise ValueError(f"{what} names classes of {', '.join(unknown)}. If you trust it, type allow_modules={listed}.")


def allowed_anywhere(tree: Any) -> set[str]:
    """The packages in every ``allow_modules`` of a configuration; techniques may have their own list."""
    if not isinstance(tree, dict):
        return set()
    return set(tree.get("allow_modules") or []).union(*map(allowed_anywhere, tree.values()))


def touched(override: Any, mine: dict[str, Any], saved: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that an override changes against the saved configuration, as ``{path: (mine, saved)}``."""
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
    """The settings in which two configurations differ, as ``{path: (mine, saved)}``; the order of techniques counts.

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
    """Whether a setting may change on resume."""
    return any(path == free or path.startswith(f"{free}.") for free in FREE)


def assign(target: dict[str, Any], path: str, source: dict[str, Any]) -> None:
    """Copy the value at a dotted path from one nested dict into another; shared parts are copied before writing."""
    first, _, rest = path.partition(".")
    if rest:
        target[first] = dict(target[first])
        assign(target[first], rest, source[first])
    else:
        target[first] = source[first]
