"""The comparison on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mltricks.comparison.compared import Compared
from mltricks.comparison.scores import Score, epochs_of, score, seconds_of
from mltricks.observers.formats import duration, number, wrapped

GAP = "  "
EPOCH, PARAMETERS = 2, 5
"""Columns of the table that a narrow terminal leaves out."""


def lines(found: Compared, page: str, width: int) -> Iterator[str]:
    """The lines: what each configuration is, a table of the results, warnings, and where the page is.

    Args:
        found: the comparison.
        page: the path of the page, as it is typed.
        width: columns of the terminal; paths are never broken.
    """
    runs, num = len(found.entries), len(found.configurations)
    yield f"{runs} runs, {num} configuration{'s' if num > 1 else ''}"
    head = max(map(len, found.names)) + 4
    for i, one in enumerate(found.configurations):
        parts = [f"{row.key}={row.values[i]}" for row in found.differences]
        yield from wrapped(f"  {found.names[i]}".ljust(head), [*parts, seeds([e.seed for e in one.counted])], width)
    yield from table(results(found), width)
    for text in found.warnings:
        yield from wrapped("  warning  ", [text], width)
    yield f"  {page}"


def seeds(found: Sequence[str]) -> str:
    """The seeds of a configuration.

    >>> seeds(["0"]), seeds(["0", "1"])
    ('seed 0', 'seeds 0, 1')
    """
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(found)}"


def results(found: Compared) -> list[list[str]]:
    """The cells of the table, the titles first."""
    rows = [["", f"val {found.metric}", "epoch", f"test {found.metric}", "time", "parameters", ""]]
    for i, one in enumerate(found.configurations):
        scores = [with_half(score(one, split, found.metric)) for split in ("val", "test")]
        size = next((f"{e.summary.num_params:,}" for e in one.entries if e.summary.num_params is not None), "-")
        time = seconds_of(one)
        mark = "best" if i == found.best else "" if one.whole else one.counted[0].summary.status
        row = [found.names[i], scores[0], epochs_of(one, "val"), scores[1]]
        rows.append([*row, "-" if time is None else duration(time), size, mark])
    return rows


def table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """The rows in columns; a narrow terminal shows neither parameters nor epochs."""
    for left_out in ((), (PARAMETERS,), (PARAMETERS, EPOCH)):
        kept = [[cell for i, cell in enumerate(row) if i not in left_out] for row in rows]
        widths = [max(len(row[i]) for row in kept) for i in range(len(kept[0]))]
        if sum(widths) + len(GAP) * len(widths) <= width:
            break
    for row in kept:
        numbers = [cell.rjust(size) for cell, size in zip(row[1:-1], widths[1:-1], strict=True)]
        yield GAP + GAP.join([row[0].ljust(widths[0]), *numbers, row[-1]]).rstrip()


def with_half(found: Score | None) -> str:
    """A score with half the width of its interval.

    >>> with_half(Score(0.9, 2, 0.85, 0.95, "seeds")), with_half(Score(0.9, 1)), with_half(None)
    ('0.9000 ±0.050', '0.9000', '-')
    """
    if found is None:
        return "-"
    value = number(found.value)
    return value if found.low is None or found.high is None else f"{value} ±{(found.high - found.low) / 2:.3f}"
