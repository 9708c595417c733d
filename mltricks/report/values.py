"""Overrides as keys and values, and the keys in which jobs differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mltricks.config.names import without_brackets
from mltricks.config.stages import as_typed

ABSENT = ""
"""Placeholder for a key that is neither among a job's overrides nor in its configuration."""
NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def pairs(overrides: Iterable[str]) -> dict[str, str]:
    """Keys and values, as text, of the overrides of one job, without those of Hydra.

    >>> pairs(["optim.lr=1e-3", "+model.width=8", "hydra.job.num=1", "~augment", "technique=[mixup,ema]"])
    {'optim.lr': '1e-3', 'model.width': '8', 'augment': '~', 'technique': '[mixup,ema]'}
    """
    found = {}
    for override in overrides:
        key, equals, value = as_typed(override).lstrip("+").partition("=")
        if override.startswith("~"):
            key, value = key[1:], "~"
        elif not equals:
            continue
        if not key.startswith(("hydra.", "hydra/")):
            found[key] = unquoted(value)
    return found


def unquoted(text: str) -> str:
    """A value without the quotes of Hydra's grammar."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("\\" + text[0], text[0])
    return text


def shown(key: str, value: str) -> str:
    """A value as it can be typed: lists of names without brackets.

    >>> shown("technique", "[mixup,ema]"), shown("technique", "[]"), shown("optim.lr", "0.1")
    ('mixup+ema', 'none', '0.1')
    """
    return without_brackets(f"{key}={value}").partition("=")[2]


def typed(text: str) -> int | float | str:
    """The text as a number if it is one.

    >>> [typed(t) for t in ("3", "1e-3", "1.", "true", "nan", "[1,2]")]
    [3, 0.001, 1.0, 'true', 'nan', '[1,2]']
    """
    if not NUMBER.fullmatch(text):
        return text
    return int(text) if re.fullmatch(r"[+-]?[\d_]+", text) else float(text)


def differing(jobs: Sequence[dict[str, str]]) -> list[str]:
    """The keys whose values differ between jobs, in order of first occurrence."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    return [key for key in keys if len({job.get(key) for job in jobs}) > 1]


def look_up(config: Any, key: str) -> str:
    """The value at a dotted key of a configuration, as text; ``ABSENT`` if it is missing or no plain value."""
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            return ABSENT
        config = config[part]
    if isinstance(config, dict | list):
        return ABSENT
    return "null" if config is None else str(config).lower() if isinstance(config, bool) else str(config)
