"""``sweep.csv``: a row per job, in the format of RFC 4180."""

from __future__ import annotations

import csv
import io

from mltricks.report.collect import Collected

BEFORE = ("job", "status", "objective")
AFTER = ("seconds", "epochs", "error")


def table(sweep: Collected) -> str:
    """The jobs in order; a swept key with the name of another column is called ``config.KEY``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    taken = {*BEFORE, *AFTER}
    writer.writerow([*BEFORE, *(f"config.{key}" if key in taken else key for key in sweep.keys), *AFTER])
    for row in sweep.rows:
        value = "" if row.value is None else repr(row.value)
        values = [row.values[key] for key in sweep.keys]
        writer.writerow([row.name, row.status, value, *values, f"{row.seconds:.3f}", row.epochs, row.error])
    return text.getvalue()
