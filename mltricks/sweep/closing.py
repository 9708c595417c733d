"""The lines that a grid ends with: its best configuration, and the command that runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mltricks.config.names import command
from mltricks.observers.formats import number
from mltricks.sweep.measured import is_repeat, kind_of_repeats
from mltricks.sweep.outcome import Outcome


def best_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The best configuration and its command; empty if no job was scored.

    Jobs that differ only in their seed or fold are one configuration, judged by the mean; the command then runs all of
    them. A configuration of which one diverged or failed is left out, unless none is whole.
    """
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(tuple(o for o in outcome.overrides if not is_repeat(key_of(o))), []).append(outcome)
    scored = {key: [o for o in group if is_scored(o)] for key, group in groups.items()}
    whole = {key: group for key, group in scored.items() if group and len(group) == len(groups[key])}
    candidates = whole or {key: group for key, group in scored.items() if group}
    objectives = [group[0].summary.objective for group in candidates.values()]
    if len({(o["name"], o["direction"]) for o in objectives}) != 1:
        return []
    sign = 1 if objectives[0]["direction"] == "maximize" else -1
    best = max(candidates, key=lambda key: sign * mean(candidates[key]))
    found, name = candidates[best], objectives[0]["name"]
    if len(found) == 1:
        return [f"best {name} {number(mean(found))} (job {found[0].num}):", f"  {command(found[0].overrides)}"]
    repeats: dict[str, dict[str, None]] = {}
    for override in (o for outcome in found for o in outcome.overrides if is_repeat(key_of(o))):
        repeats.setdefault(key_of(override), {})[override.partition("=")[2]] = None
    kind = kind_of_repeats(key for key, values in repeats.items() if len(values) > 1)
    jobs = ", ".join(str(o.num) for o in found)
    typed = [f"{key}={','.join(values)}" for key, values in repeats.items()]
    return [
        f"best {name} {number(mean(found))}, mean of {len(found)} {kind} (jobs {jobs}):",
        f"  {command([*best, *typed], ['-m'])}",
    ]


def key_of(override: str) -> str:
    """The key of an override."""
    return override.partition("=")[0].lstrip("+")


def is_scored(outcome: Outcome) -> bool:
    """Whether a job was completed and has an objective that others can be compared with."""
    summary = outcome.summary
    value, known = summary.objective.get("value"), summary.objective.get("direction") is not None
    finite = isinstance(value, int | float) and math.isfinite(value)
    return known and finite and summary.status in ("completed", "stopped_early")


def mean(outcomes: Sequence[Outcome]) -> float:
    """The mean objective."""
    return sum(outcome.summary.objective["value"] for outcome in outcomes) / len(outcomes)
