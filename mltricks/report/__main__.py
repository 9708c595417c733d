"""The command ``python -m mltricks.report DIR``: write the page of a sweep or of a run from its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = """usage: python -m mltricks.report DIR [--allow-modules NAME,...]

Of a sweep's folder: writes DIR/sweep.csv and DIR/sweep.html from the folders of its jobs, finished or not.
Of a run's folder, also of one job of a sweep: writes DIR/report.html and DIR/plots; it measures the test split again.
--allow-modules names packages of yours whose classes the run's configuration may name."""
ALLOW = "--allow-modules"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 written, 1 refused, 2 wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    allow: list[str] = []
    if len(words) == 3 and words[1] == ALLOW:
        allow, words = [name for name in words[2].split(",") if name], words[:1]
    if len(words) != 1 or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        for path in written(Path(words[0]), allow):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def written(folder: Path, allow: Sequence[str]) -> Sequence[Path]:
    """Write the page of a run or of a sweep; return the files."""
    from mltricks.report.run import is_run, write_run
    from mltricks.report.write import write

    return [write_run(folder, allow)] if is_run(folder) else write(folder)


if __name__ == "__main__":
    sys.exit(main())
