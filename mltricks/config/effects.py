"""Settings that a command gives, and nothing reads.

In training such a setting is refused where the run is built. Other jobs take a training command with ``job=...`` added,
and one command serves several data sets and devices; there a line says what has no effect. Cards say it in a field:
``Ignores: scheduler epochs``, with ``all`` for every setting that is not the option's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks.config.cards import read_header
from mltricks.config.known import chosen_options
from mltricks.config.names import shown

FIELD = "Ignores: "
PRUNERS = ("median", "asha", "hyperband", "patient")
"""Rules of a study, each with settings of its own."""
NEEDED = {
    "hydra.sweeper.first_seeds": ("hydra.sweeper.mode", "select"),
    **{f"hydra.sweeper.retune_{name}": ("hydra.sweeper.retune", "") for name in ("trials", "seeds")},
    **{f"hydra.sweeper.{name}": ("hydra.sweeper.", name) for name in PRUNERS},
}
"""Settings of sweepers that only count beside another one: the beginning of its key, and what its value contains."""


def idle(overrides: Sequence[Any], folders: Sequence[Path], sweeps: bool) -> list[str]:
    """A line for every override without effect.

    Args:
        overrides: parsed by Hydra's grammar.
        folders: the folders of options.
        sweeps: whether they define a sweep.
    """
    lines = []
    for option in sorted(chosen_options(overrides, sweeps)):
        ignored = list(ignored_by(option, folders))
        found = [o for o in overrides if any(covers(key, o.key_or_group, option) for key in ignored)]
        lines += [f"note: {shown(override)} has no effect on {option}" for override in found]
    for override in overrides:
        for key, (other, value) in NEEDED.items():
            if is_below(override.key_or_group, key) and not any(gives(o, other, value, key) for o in overrides):
                wanted = f"{other.removeprefix('hydra.sweeper.') or 'pruner'}={value or '...'}"
                lines.append(f"note: {shown(override)} has no effect without {wanted}")
    return lines


def ignored_by(option: str, folders: Sequence[Path]) -> Iterator[str]:
    """The keys that an option ignores, from its card."""
    group, _, name = option.partition("=")
    for path in (path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()):
        for line in read_header(path.read_text(encoding="utf-8")):
            if line.startswith(FIELD):
                yield from line.removeprefix(FIELD).split()


def covers(ignored: str, key: str, option: str) -> bool:
    """Whether an ignored key covers that of an override; ``all`` covers what neither Hydra nor the option reads."""
    group = option.partition("=")[0]
    if ignored == "all":
        return not any(is_below(key, own) for own in (group, "hydra", "allow_modules")) and "/" not in key
    return is_below(key, ignored)


def is_below(key: str, outer: str) -> bool:
    return f"{key}.".startswith(f"{outer}.")


def gives(override: Any, key: str, value: str, besides: str) -> bool:
    """Whether an override sets the other setting that one needs."""
    name = override.key_or_group
    return name.startswith(key) and not is_below(name, besides) and value in str(override.get_value_element_as_str())
