"""The text of an ablation on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.ablation.arms import Arm, arm_name
from mltricks.ablation.effects import Effect
from mltricks.ablation.runs import ArmRuns
from mltricks.config.names import command


def say(
    effects: Sequence[Effect], runs: ArmRuns, settings: dict[str, Any], rounds: Sequence[dict[str, Any]], folder: Path
) -> None:
    """Print a line per comparison, and the resulting command."""
    percent = f"{100 * settings['level']:g} %"
    width = max(len(found.name) for found in effects)
    of_all = f"corrected for {len(effects)}"
    print(f"{'':{width}} {'with-without':>12}  {percent + ' interval':22} {'cost':>6}  {of_all:20}  uncorrected")
    for found in effects:
        print(line(found, width))
    print("Differences are measured on the test split; the validation split chose the epochs and the retuned settings.")
    if len(effects) > 1:
        print(
            f"The first verdict is corrected for all {len(effects)} comparisons (Holm); the interval and the last "
            "verdict are for one comparison alone."
        )
    if rounds:
        chosen: Arm = tuple(rounds[-1]["chosen"])
        print(f"selected: {arm_name(chosen)}")
        print(command(runs.overrides(chosen)))
    print(folder)


def line(found: Effect, width: int) -> str:
    """One comparison as a line of the table, its name padded to ``width`` characters."""
    difference = "" if found.difference is None else f"{found.difference:+.4g}"
    between = ""
    if found.difference_interval is not None:
        between = f"[{found.difference_interval[0]:+.4g}, {found.difference_interval[1]:+.4g}]"
    cost = "" if found.cost_ratio is None else f"x{found.cost_ratio:.2f}"
    remark = f"; about {found.seeds_to_settle} seeds would settle it" if found.seeds_to_settle else ""
    remark += f"; {found.lost} pairs lost" if found.lost else ""
    verdicts = f"{found.verdict_of_all:20}  {found.verdict}{remark}"
    return f"{found.name:{width}} {difference:>12}  {between:22} {cost:>6}  {verdicts}"
