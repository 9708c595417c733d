"""The text of an ablation on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltricks.ablation.arms import Arm
from mltricks.ablation.effects import Effect
from mltricks.ablation.runs import ArmRuns
from mltricks.config.names import command
from mltricks.observers.formats import WIDTH, wrapped

LONGEST_NAME = 32
"""Characters of the longest name that stands beside its numbers."""


def say(effects: Sequence[Effect], runs: ArmRuns, settings: dict[str, Any], rounds: Sequence[dict[str, Any]]) -> None:
    """Print the comparisons, and the resulting command."""
    width = min(max(len(found.name) for found in effects), LONGEST_NAME)
    interval = f"{100 * settings['level']:g} % interval"
    print(f"{'':{width}}    difference {interval:>22}   time")
    for found in effects:
        print("\n".join(lines(found, width)))
    notes = ["Differences are of the test split; the validation split chose epochs and retuned settings."]
    if len(effects) > 1:
        notes += [f"Verdicts are corrected for all {len(effects)} comparisons (Holm); intervals are not."]
    for note in notes:
        print("\n".join(wrapped("", [note], WIDTH)))
    if rounds:
        chosen: Arm = tuple(rounds[-1]["chosen"])
        print(f"selected: {runs.design.name(chosen)}")
        print(f"  {command(runs.overrides(chosen))}")


def lines(found: Effect, width: int) -> list[str]:
    """One comparison: its numbers, and below them its verdict, which may need more room.

    Args:
        found: the effect.
        width: characters of the column of names; a longer name stands on a line of its own.
    """
    difference = "" if found.difference is None else f"{found.difference:+.4g}"
    between = ""
    if found.difference_interval is not None:
        between = f"[{found.difference_interval[0]:+.3g}, {found.difference_interval[1]:+.3g}]"
    cost = "" if found.cost_ratio is None else f"x{found.cost_ratio:.2f}"
    *before, name = [found.name] if len(found.name) <= width else [*wrapped("", [found.name], WIDTH), ""]
    numbers = f"{name:{width}}  {difference:>12} {between:>22}  {cost:>5}".rstrip()
    verdict = [f"{found.verdict_of_all};", *remarks(found)]
    verdict[-1] = verdict[-1].rstrip(";")
    return [*before, numbers, *wrapped("    ", verdict, WIDTH, " ")]


def remarks(found: Effect) -> list[str]:
    """What is to be said beside the verdict, each ending in a semicolon."""
    alone = [f"{found.verdict} without the correction;"] if found.verdict != found.verdict_of_all else []
    seeds = [f"about {found.seeds_to_settle} seeds would settle it;"] if found.seeds_to_settle else []
    return [*alone, *seeds, *([f"{found.lost} pairs lost;"] if found.lost else [])]
