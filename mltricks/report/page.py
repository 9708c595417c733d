"""``sweep.html``: one file that loads nothing else. Jinja2 fills it, plotly.js draws its figures, a script its table.

The table's data are JSON in a script element. The script creates elements and sets their text, so data are never parsed
as HTML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltricks.figures.page import render
from mltricks.figures.parts import Section
from mltricks.report import ablation, recipe
from mltricks.report.collect import Collected
from mltricks.report.commands import best_command, rerun
from mltricks.report.failures import failures
from mltricks.report.leaderboard import Group, best_group, groups
from mltricks.report.payload import payload
from mltricks.report.scales import axes
from mltricks.report.sections import figures_of
from mltricks.report.slices import edges
from mltricks.report.state import cards, counted, subtitle, warnings

HERE = Path(__file__).parent
SCRIPTS = ("dom", "parallel", "table", "main")


def page(sweep: Collected) -> bytes:
    """The whole document."""
    found, scales = groups(sweep), axes(sweep)
    best = best_group(found)
    own = own_sections(sweep)
    searched = not own  # else the jobs differ in purpose and length, or in one part at a time
    at_edge = edges(sweep, scales, best, found) if searched else []
    script = "".join((HERE / "assets" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    content = {
        "title": sweep.name or f"Sweep {sweep.folder.resolve().name}",
        "subtitle": subtitle(sweep),
        "cards": numbers(sweep, found, best),
        "commands": commands(sweep),
        "warnings": warnings(sweep, found, at_edge),
        "own": own,
        "verdicts_first": sweep.ablation is not None,
        "folded": not searched,
        "figures": figures_of(sweep, scales, found, best, at_edge) if searched else [],
        "failures": failures(sweep),
        "counted": counted(sweep),
        "data": payload(sweep, scales, found, best),
    }
    style = (HERE / "assets" / "page.css").read_text(encoding="utf-8")
    return render(
        "sweep.html",
        folder=HERE / "templates",
        styles=[style],
        scripts=[f'"use strict";(() => {{\n{script}}})();'],
        **content,
    )


def numbers(sweep: Collected, found: list[Group], best: Group | None) -> list[tuple[str, Any, str]]:
    """The large numbers at the top, the result of a recipe beside its score on the validation split."""
    made = cards(sweep, found, best)
    if sweep.recipe is None and sweep.ablation is None:
        return made
    made = [card for card in made if not card[0].startswith("configuration")]
    return [*made[:3], *recipe.cards(sweep.ended_with), *made[3:]]


def own_sections(sweep: Collected) -> list[Section]:
    """Sections of one kind of sweep alone, above the leaderboard."""
    steps = [recipe.section(sweep.recipe)] if sweep.recipe is not None else []
    return [*steps, *([ablation.section(sweep.ablation)] if sweep.ablation is not None else [])]


def commands(sweep: Collected) -> list[tuple[str, str, str]]:
    """Titles and commands to copy, each with a remark."""
    found = groups(sweep)
    said = sweep.ended_with or {}
    again = rerun(sweep, found) if sweep.recipe is None and sweep.ablation is None else ""
    best = "The best configuration" if sweep.ablation is None else "The best arm on the validation split"
    listed = [
        (best, str(said.get("command") or best_command(sweep, found)), ""),
        ("The same, as an experiment", str(said.get("experiment_command") or ""), ""),
        (
            "The best five again, each with five new seeds",
            again,
            "The best of many runs is partly luck; new seeds show how much.",
        ),
        ("This sweep", sweep.origin.command, ""),
    ]
    return [entry for entry in listed if entry[1]]
