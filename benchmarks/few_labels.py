"""What methods with few labels or none reach at a small scale: python benchmarks/few_labels.py

Every row is one command, a sweep over the seeds 0, 1 and 2, that anyone can type alone. Its figures are of the test
split: the mean over the seeds with Student's 95 % interval. They go into the tables of docs/few_labels.md. A stopped
call goes on where it was: what is in the folder of the results is not trained again. On two cores it takes hours.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from few_labels_rows import ROW, ROWS, Row

from mltricks.config.names import command
from mltricks.sweep.statistics import mean_interval

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "few_labels.md"
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("multirun/few_labels"), help="folder of the sweeps")
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of names of rows; default: all")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/few_labels.md")
    parser.add_argument("more", nargs="*", default=[], help="overrides of every run, as device=cuda")
    options = parser.parse_args()
    for row in ROWS:
        if not options.only or any(row.name.startswith(beginning) for beginning in options.only):
            share_stages(options.out, row.folder)
            run(row, options.out / row.folder, options.more)
            print(f"{row.table:<14} {row.name:<34} {'  '.join(figures(row, options.out / row.folder))}", flush=True)
    if options.write:
        PAGE.write_text(with_tables(PAGE.read_text(), options.out))


def overrides(row: Row) -> list[str]:
    """The overrides of a row's command."""
    return [*row.overrides, f"seed={','.join(map(str, SEEDS))}"]


def share_stages(out: Path, folder: str) -> None:
    """Let the sweeps of all rows have one folder of stages: a teacher of several rows is trained once."""
    (out / "stages").mkdir(parents=True, exist_ok=True)
    (out / folder).mkdir(exist_ok=True)
    if not (out / folder / "stages").exists():
        (out / folder / "stages").symlink_to(Path("..", "stages"), target_is_directory=True)


def run(row: Row, folder: Path, more: Sequence[str]) -> None:
    """Run the sweep of a row, or what is left of it."""
    typed = [*overrides(row), *more, f"hydra.sweep.dir={folder}"]
    subprocess.run([sys.executable, "-m", "mltricks", "-m", *typed], check=True, stdout=subprocess.DEVNULL)


def figures(row: Row, folder: Path) -> list[str]:
    """What each column of a row's table shows: mean and interval in percent."""
    found = [path.parent for path in sorted(folder.glob("*/summary.json")) if path.parent.name.isdigit()]
    values = row.columns if not row.key else [column.split()[0] for column in row.columns]
    shown_ones = []
    for stage, value in zip(row.stages, values, strict=True):
        mine = [job for job in found if not row.key or f"{row.key}={value}" in read(job)["overrides"]]
        measured = [100 * accuracy(job, stage, row.baseline) for job in mine]
        shown_ones.append(shown(measured) if len(measured) == len(SEEDS) else "not measured")
    return shown_ones


def accuracy(job: Path, stage: str, baseline: str) -> float:
    """The test accuracy of a run or of one of its stages.

    Args:
        job: folder of the run.
        stage: its name; empty for the run itself.
        baseline: of ``job=knn`` and ``job=probe``, the row to read.
    """
    told = read(job)
    if not stage:
        return float(told["test"]["accuracy"])
    told = next(one for one in told["stages"] if one["name"] == stage)
    if baseline == ROW:
        return float(told["test"]["accuracy"])
    rows = json.loads((job / told["folder"] / f"{stage}.json").read_text())["rows"]
    return float(rows[baseline]["test"]["accuracy"])


def read(job: Path) -> dict[str, Any]:
    """The summary of a run."""
    found: dict[str, Any] = json.loads((job / "summary.json").read_text())
    return found


def shown(values: Sequence[float]) -> str:
    """Mean and interval.

    >>> shown([98.0, 98.5, 99.0])
    '98.5 (97.3 to 99.7)'
    """
    found = mean_interval(values)
    return f"{found.mean:.1f} ({max(found.low, 0):.1f} to {min(found.high, 100):.1f})"


def with_tables(page: str, out: Path) -> str:
    """The page with its tables, each between two comments that name it."""
    for name in dict.fromkeys(row.table for row in ROWS):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert pattern.search(page), f"{PAGE} has a place for the table {name}"
        table = "\n".join(table_of([row for row in ROWS if row.table == name], out))
        page = pattern.sub(lambda _, text=f"{begin}\n{table}\n\n{end}": text, page)  # type: ignore[misc]
    return page


def table_of(rows: Sequence[Row], out: Path) -> Iterator[str]:
    """The lines of a table."""
    head = ["method", *rows[0].columns, "published", "command"]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        typed = command(overrides(row), ["-m"])
        yield f"| {' | '.join([row.name, *figures(row, out / row.folder), row.published, f'`{typed}`'])} |"


if __name__ == "__main__":
    main()
