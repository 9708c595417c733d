"""Options of one class, such as ``data=digits`` and ``data=digits_5_9``, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.config.known import options_of
from mltricks.config.settings import read


def telling_apart(group: str, target: str, folders: Sequence[Path]) -> set[str]:
    """The settings in which the options of a class differ; none where the class has one option.

    Args:
        group: as ``data``.
        target: the class, as ``mltricks.data.digits.Digits``.
        folders: that hold options.

    >>> from mltricks.config.options import conf_dir
    >>> telling_apart("data", "mltricks.data.digits.Digits", [conf_dir()])
    {'classes'}
    """
    options = [values_of(group, name, folders) for name in options_of(group, folders)]
    family = [values for values in options if values.get("_target_") == target]
    return {key for values in family for key in values if any(other.get(key) != values[key] for other in family)}


def values_of(group: str, name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The settings of an option as its file has them, and those that it includes from its group.

    Args:
        group: as ``data``.
        name: of the option.
        folders: that hold options.
    """
    file = next((path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()), None)
    content = dict(read(file)) if file is not None else {}
    included = [entry for entry in content.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    values: dict[str, Any] = {}
    for entry in included:
        values |= values_of(group, entry.rpartition("/")[2], folders)
    return values | content
