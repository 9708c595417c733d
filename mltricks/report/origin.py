"""Reads the record of a sweep: ``sweep.json`` of our sweepers, and Hydra's ``multirun.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.config.names import PROGRAM, in_shell, without_brackets
from mltricks.config.shorthand import shorten
from mltricks.report.files import read_json, read_yaml

LISTED = ("grid", "basic")
"""Sweepers that run every combination of the values typed."""


@dataclass
class Origin:
    """The command and the plan of a sweep.

    Attributes:
        command: the command that started it, to paste; empty if unknown.
        sweeper: name of the sweeper; empty if unknown.
        finished: whether the sweep has finished; ``None`` if unknown.
        started: ISO time; empty if unknown.
        seconds: duration so far; ``None`` if unknown.
        objective, direction: the compared metric, and ``maximize`` or ``minimize``; empty if unknown.
        swept: keys that were given several values.
        planned: number of jobs; ``None`` if not known in advance.
        log_scales: whether the interval of a key is searched on a logarithmic scale, for the keys that have one.
    """

    command: str = ""
    sweeper: str = ""
    finished: bool | None = None
    started: str = ""
    seconds: float | None = None
    objective: str = ""
    direction: str = ""
    swept: list[str] = field(default_factory=list)
    planned: int | None = None
    log_scales: dict[str, bool] = field(default_factory=dict)


def read_origin(folder: Path) -> Origin:
    """Read the origin from the files of a sweep."""
    origin = from_hydra(read_yaml(folder / "multirun.yaml"))
    said = read_json(folder / "sweep.json")
    return with_own(origin, said) if isinstance(said, dict) else origin


def with_own(origin: Origin, said: dict[str, Any]) -> Origin:
    """Replace values by those of ``sweep.json``, which takes precedence."""
    if isinstance(command := said.get("command"), list) and command:
        origin.command = typed_command([str(word) for word in command])
    objective = said.get("objective") or {}
    origin.objective = str(first(objective.get("name")) or "")
    origin.direction = str(first(objective.get("direction")) or origin.direction)
    origin.sweeper = str(said.get("sweeper") or origin.sweeper)
    origin.started = str(said.get("started") or "")
    origin.finished = {"finished": True, "ended": True, "running": False}.get(str(said.get("status")))
    seconds = said.get("seconds")
    origin.seconds = float(seconds) if isinstance(seconds, int | float) else None
    if isinstance(swept := said.get("swept"), list):
        origin.swept = list(dict.fromkeys([*map(str, swept), *origin.swept]))
    return origin


def from_hydra(multirun: Any) -> Origin:
    """The origin according to Hydra's record."""
    hydra = multirun.get("hydra") if isinstance(multirun, dict) else None
    if not isinstance(hydra, dict):
        return Origin()
    overrides, sweeper = hydra.get("overrides") or {}, hydra.get("sweeper") or {}
    task = [str(o) for o in overrides.get("task") or []]
    own = [str(o) for o in overrides.get("hydra") or [] if not str(o).startswith("hydra.mode=")]
    name = str(((hydra.get("runtime") or {}).get("choices") or {}).get("hydra/sweeper") or "")
    swept, log_scales = lengths(task)
    tuned = sweeper.get("tune")
    keys = [*swept, *map(str, tuned if isinstance(tuned, list) else [])]
    origin = Origin(command=typed_command(["-m", *own, *task]), sweeper=name, swept=list(dict.fromkeys(keys)))
    origin.direction, origin.log_scales = str(first(sweeper.get("direction")) or ""), log_scales
    if name in LISTED:
        origin.planned = 1
        for length in swept.values():
            origin.planned *= length
    elif isinstance(n_trials := sweeper.get("n_trials"), int):
        replicates = sweeper.get("replicates")
        origin.planned = n_trials * (replicates if isinstance(replicates, int) else 1)
    return origin


def lengths(task: list[str]) -> tuple[dict[str, int], dict[str, bool]]:
    """The keys with several values and their number, 1 for an interval; and whether each interval is logarithmic."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    found: dict[str, int] = {}
    log_scales: dict[str, bool] = {}
    for text in task:
        try:
            override: Any = parser.parse_override(text)
            if override.is_sweep_override():
                key = override.get_key_element().lstrip("+")
                if override.is_interval_sweep():
                    log_scales[key] = "log" in override.value().tags
                is_listed = override.is_discrete_sweep() and "glob(" not in text
                found[key] = sum(1 for _ in override.sweep_string_iterator()) if is_listed else 1
        except (HydraException, ValueError, AttributeError):
            continue
    return found, log_scales


def typed_command(words: list[str]) -> str:
    """The words of a command as a shell line, with the program in front if it is missing."""
    has_program = "=" not in words[0] and not words[0].startswith("-")
    return " ".join(map(in_shell, [*(() if has_program else PROGRAM), *map(without_brackets, shorten(words))]))


def first(value: Any) -> Any:
    """The value, or the first where there are several."""
    return (value[0] if value else None) if isinstance(value, list) else value
