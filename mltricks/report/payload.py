"""The data of the page's table, as JSON holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mltricks.config.names import without_brackets
from mltricks.report.collect import Collected, Row
from mltricks.report.commands import of_group, of_page
from mltricks.report.leaderboard import Group
from mltricks.report.scales import Axis
from mltricks.report.state import state


def payload(sweep: Collected, axes: Sequence[Axis], found: Sequence[Group], best: Group | None) -> dict[str, Any]:
    """The configurations in order, and their jobs."""
    return {
        "state": state(sweep),
        "objective": {"name": sweep.objective, "maximize": sweep.maximize},
        "keys": [axis.key for axis in axes if not axis.seed],
        "best": found.index(best) if best else None,
        "jobs": [job(sweep, row) for row in sweep.rows],
        "groups": [configuration(sweep, group) for group in found],
    }


def configuration(sweep: Collected, group: Group) -> dict[str, Any]:
    """A configuration, with its interval if there is one."""
    known = group.score is not None and math.isfinite(group.score.low)
    return {
        "values": group.values,
        "rows": group.rows,
        "n": group.n,
        "rank": group.rank,
        "measured_on": group.measured_on,
        "mean": group.score.mean if group.score else None,
        "interval": [group.score.low, group.score.high] if group.score and known else None,
        "interval_of": group.interval_of,
        "best": group.best,
        "worst": group.worst,
        "partial": group.partial,
        "seconds": round(group.seconds, 3),
        "command": of_group(sweep, group),
    }


def job(sweep: Collected, row: Row) -> dict[str, Any]:
    """A job of the table."""
    return {
        "name": row.name,
        "status": row.status,
        "value": row.value,
        "overrides": [without_brackets(o) for o in row.overrides],
        "report": row.has_report,
        "page_command": "" if row.has_report else of_page(sweep, row),
    }
