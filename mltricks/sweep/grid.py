"""Every combination of the values typed, in order: the default of ``-m``.

No study is kept: the folders are the record, and the same command in the same folder goes on where it was stopped.
"""

from __future__ import annotations

import itertools
from typing import Any

from mltricks.sweep.outcome import Outcome
from mltricks.sweep.ranges import listed, text_of
from mltricks.sweep.runner import Place, Sweep


def sweep(settings: dict[str, Any], place: Place, arguments: list[str]) -> list[Outcome]:
    """Run the product of all values.

    Args:
        settings: of ``conf/hydra/sweeper/grid.yaml``.
        place: where the sweep happens.
        arguments: the overrides of the command.
    """
    jobs = combinations(arguments, place.context.config_loader)
    return Sweep(place).run(jobs, 0)


def combinations(arguments: list[str], config_loader: Any) -> list[list[str]]:
    """The overrides of every job: the last value typed changes fastest.

    Raises:
        ValueError: an interval, which has no list of values.
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
                f"{override.input_line}: a grid needs values. Type {key}=0.1,0.2 or hydra/sweeper=study with it."
            )
    return [list(job) for job in itertools.product(*columns)]
