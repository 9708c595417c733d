"""Commands to copy: of a configuration, of the best ones with more seeds, and of a job's own page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mltricks.config.names import command
from mltricks.report.collect import Collected, Row
from mltricks.report.leaderboard import Group, best_group
from mltricks.report.values import pairs
from mltricks.sweep.measured import FOLD, is_repeat

FIRST, SEEDS = 5, 5
"""How many of the best configurations are run again, and with how many seeds each."""


def without_seeds(row: Row) -> list[str]:
    """The overrides of a job except its seeds and its fold."""
    return [o for o in row.overrides if not is_repeat(o.partition("=")[0].lstrip("+"))]


def of_group(sweep: Collected, group: Group) -> str:
    """The command of a configuration: without a seed if it ran with several, since none of them is special.

    A configuration that was cross-validated is run with all its folds again.
    """
    rows = [sweep.rows[i] for i in group.rows]
    row = next((row for row in rows if row.value is not None and row.value == group.best), rows[0])
    if group.n == 1:
        return command(row.overrides)
    folds = with_folds(rows)
    return command([*without_seeds(row), *folds], ["-m"] if "," in "".join(folds) else [])


def with_folds(rows: Sequence[Row]) -> list[str]:
    """An override with the folds of these jobs; empty if they have none."""
    found = dict.fromkeys(fold for row in rows if (fold := pairs(row.overrides).get(FOLD)) is not None)
    return [f"{FOLD}={','.join(found)}"] if found else []


def best_command(sweep: Collected, found: Sequence[Group]) -> str:
    """The command of the best configuration; empty if there is none."""
    best = best_group(list(found))
    return of_group(sweep, best) if best else ""


def rerun(sweep: Collected, found: Sequence[Group]) -> str:
    """Commands that run the best configurations again with new seeds, one sweep each; empty without two of them.

    The seeds are new, since the best of many single runs was also lucky with its seed. Configurations that differ in
    one key alone are one sweep.
    """
    best = [group for group in found if group.score][:FIRST]
    if len(best) < 2 or best_group(list(found)) is None:
        return ""
    seeds = ["seed=" + ",".join(map(str, new_seeds(sweep.rows))), *with_folds(sweep.rows)]
    lists = [without_seeds(sweep.rows[group.rows[0]]) for group in best]
    shared = [o for o in lists[0] if all(o in other for other in lists)]
    own = [[o for o in one if o not in shared] for one in lists]
    values = [o[0].partition("=") for o in own if len(o) == 1]
    if len(values) == len(own) and len({key for key, *_ in values}) == 1 and not any("," in v for *_, v in values):
        return command([*shared, f"{values[0][0]}={','.join(v for *_, v in values)}", *seeds], ["-m"])
    return "\n".join(command([*one, *seeds], ["-m"]) for one in lists)


def new_seeds(rows: Sequence[Row]) -> range:
    """Seeds that no job has used; 0 is the default of ``seed``."""
    used = [int(seed) for row in rows if (seed := pairs(row.overrides).get("seed", "0")).isdecimal()]
    first = max(used, default=0) + 1
    return range(first, first + SEEDS)


def of_page(sweep: Collected, row: Row) -> str:
    """The command that writes the page of a job."""
    return shlex.join(["python", "-m", "mltricks.report", str(sweep.folder / row.name)])
