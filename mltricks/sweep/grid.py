"""The grid sweeper, the default of ``-m``: every combination of the given values, in order.

The jobs' folders are its only record. The same command in the same folder resumes a stopped sweep.
"""

from __future__ import annotations

import itertools
from typing import Any

from mltricks.config.names import shown
from mltricks.sweep.closing import best_lines
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.ranges import listed, text_of
from mltricks.sweep.runner import Place, Sweep


def sweep(settings: dict[str, Any], place: Place, arguments: list[str]) -> list[Outcome]:
    """Run the Cartesian product of all values.

    Args:
        settings: the settings in ``conf/hydra/sweeper/grid.yaml``.
        place: Hydra's objects for the sweep.
        arguments: the overrides of the command.
    """
    jobs = combinations(arguments, place.context.config_loader)
    grid = Sweep(place)
    grid.tally.total = len(jobs)
    outcomes = grid.run(jobs, 0)
    if not grid.launched:
        print(f"{grid.folder}: all {len(jobs)} jobs were done before", flush=True)
    print("\n".join(best_lines(outcomes)) or "no job was scored", flush=True)
    return outcomes


def combinations(arguments: list[str], config_loader: Any) -> list[list[str]]:
    """Return the overrides of every job; the last key of the command changes fastest.

    Raises:
        ValueError: a key is swept over an interval, which has no list of values.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    columns = []
    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(arguments):
        key = override.get_key_element()
        if override.value_type is None:  # a deletion
            columns.append([key])
        elif not override.is_sweep_override():
            columns.append([f"{key}={override.get_value_element_as_str()}"])
        elif override.is_discrete_sweep():
            columns.append([f"{key}={text_of(value)}" for value in listed(override)])
        else:
            raise ValueError(
                f"{shown(override)}: a grid needs values. Type {key}=VALUE,VALUE or hydra/sweeper=study with it."
            )
    return [list(job) for job in itertools.product(*columns)]
