"""The jobs that failed or diverged, equal messages together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mltricks.config.names import without_brackets
from mltricks.report.collect import Collected, Row

LOST = ("failed", "diverged")


@dataclass
class Failure:
    """Jobs with the same message, apart from its numbers.

    Attributes:
        status: ``failed`` or ``diverged``.
        rows: the jobs.
        error: the message of the first.
        overrides: those of the first, as they can be typed.
    """

    status: str
    rows: list[Row]
    error: str
    overrides: str


def failures(sweep: Collected) -> list[Failure]:
    """The failures, in order of their first job."""
    found: dict[tuple[str, str], Failure] = {}
    for row in sweep.rows:
        if row.status in LOST:
            typed = " ".join(map(without_brackets, row.overrides))
            new = Failure(row.status, [], row.error or "There is no error message.", typed)
            found.setdefault((row.status, re.sub(r"[\d.e+-]+", "#", row.error)), new).rows.append(row)
    return list(found.values())
