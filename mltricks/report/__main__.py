"""The command ``python -m mltricks.report DIR``: write the table and the page of a sweep from its folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = """usage: python -m mltricks.report DIR

Writes DIR/sweep.csv and DIR/sweep.html from the folders of a sweep's jobs, finished or not, of any sweeper."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 written, 1 refused, 2 wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    if len(words) != 1 or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    from mltricks.report.write import write

    try:
        for path in write(Path(words[0])):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
