"""The command ``python -m mltricks.report DIR``: write the page of a sweep or of a run from its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mltricks.config.names import command

USAGE = """usage: python -m mltricks.report DIR [--watch | --allow-modules NAME,...]

Of a sweep's folder: writes DIR/sweep.csv and DIR/sweep.html from the folders of its jobs, finished or not.
--watch writes them again and again until the sweep has ended; the page, once opened, loads itself again.
Of a run's folder, also of one job of a sweep: writes DIR/report.html and DIR/plots; it measures the test split again.
--allow-modules names packages of yours whose classes the run's configuration may name."""
ALLOW, WATCH = "--allow-modules", "--watch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 written, 1 refused, 2 wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    watched, allow = words[1:] == [WATCH], list[str]()
    words = words[:1] if watched else words
    if len(words) == 3 and words[1] == ALLOW:
        allow, words = [name for name in words[2].split(",") if name], words[:1]
    if len(words) != 1 or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        for path in followed(Path(words[0])) if watched else written(Path(words[0]), allow):
            print(path)
    except KeyboardInterrupt:
        return 0 if watched else 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def written(folder: Path, allow: Sequence[str]) -> Sequence[Path]:
    """Write the page of a run or of a sweep; return the files.

    Raises:
        ValueError: the folder holds neither; for single runs the message says how to compare them.
    """
    from mltricks.report.run import is_run, single_runs, write_run
    from mltricks.report.write import write

    if is_run(folder):
        return [write_run(folder, allow)]
    if single_runs(folder):
        raise ValueError(
            f"{folder} holds runs that are no sweep. To compare them: {command(['job=compare', f'runs={folder}'])}"
        )
    return write(folder)


def followed(folder: Path) -> Sequence[Path]:
    """Watch a sweep; return its page.

    Raises:
        ValueError: it is the folder of a run, or of runs that are no sweep.
    """
    from mltricks.report.run import is_run, single_runs
    from mltricks.report.watch import watch

    if is_run(folder) or single_runs(folder):
        raise ValueError(f"{WATCH} follows a sweep, and {folder} is none. tracker=tensorboard follows a run.")
    return [watch(folder)]


if __name__ == "__main__":
    sys.exit(main())
