"""The lines that a grid ends with: its best configuration, and the command that runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mltricks.config.names import command
from mltricks.observers.formats import number
from mltricks.sweep.outcome import Outcome


def best_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The best configuration and its command; empty if no job was scored.

    Jobs that differ only in their seed are one configuration, judged by the mean; the command then runs all its seeds.
    A configuration of which a seed diverged or failed is left out, unless none is whole.
    """
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(tuple(o for o in outcome.overrides if not is_seed(o)), []).append(outcome)
    scored = {key: [o for o in group if is_scored(o)] for key, group in groups.items()}
    whole = {key: group for key, group in scored.items() if group and len(group) == len(groups[key])}
    candidates = whole or {key: group for key, group in scored.items() if group}
    objectives = [group[0].summary.objective for group in candidates.values()]
    if len({(o["name"], o["direction"]) for o in objectives}) != 1:
        return []
    sign = 1 if objectives[0]["direction"] == "maximize" else -1
    key = max(candidates, key=lambda key: sign * mean(candidates[key]))
    found, name = candidates[key], objectives[0]["name"]
    if len(found) == 1:
        return [f"best {name} {number(mean(found))} (job {found[0].num}):", f"  {command(found[0].overrides)}"]
    seeds = ",".join(o.partition("=")[2] for outcome in found for o in outcome.overrides if is_seed(o))
    return [
        f"best {name} {number(mean(found))}, mean of {len(found)} seeds (jobs {', '.join(str(o.num) for o in found)}):",
        f"  {command([*key, f'seed={seeds}'], ['-m'])}",
    ]


def is_seed(override: str) -> bool:
    """Whether an override sets the seed."""
    return override.startswith("seed=")


def is_scored(outcome: Outcome) -> bool:
    """Whether a job was completed and has an objective that others can be compared with."""
    summary = outcome.summary
    value, known = summary.objective.get("value"), summary.objective.get("direction") is not None
    finite = isinstance(value, int | float) and math.isfinite(value)
    return known and finite and summary.status in ("completed", "stopped_early")


def mean(outcomes: Sequence[Outcome]) -> float:
    """The mean objective."""
    return sum(outcome.summary.objective["value"] for outcome in outcomes) / len(outcomes)
