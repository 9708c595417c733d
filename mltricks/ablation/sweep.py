"""The sweeper ``ablation``: the effect of each technique, with paired seeds and intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mltricks.ablation.arms import Arm, Comparison, Design, arm_name, comparisons, distinct, read_design
from mltricks.ablation.effects import Effect, effect, of_all
from mltricks.ablation.retune import points_of
from mltricks.ablation.runs import ArmRuns
from mltricks.ablation.select import grow, sign_of
from mltricks.ablation.settings import check
from mltricks.ablation.table import say
from mltricks.process.atomic import write_atomically
from mltricks.summary import json_safe
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.runner import Place, Sweep


def sweep(settings: dict[str, Any], place: Place, arguments: list[str]) -> list[Outcome]:
    """Run every arm with every seed, and report the effects.

    Args:
        settings: the settings of ``conf/hydra/sweeper/ablation.yaml``.
        place: where the sweep runs.
        arguments: the overrides of the command.

    Raises:
        ValueError: a setting is wrong, a value is swept, or there is nothing to leave out.
    """
    check(settings)
    folders = [Path(s.path) for s in place.config.hydra.runtime.config_sources if s.schema == "file"]
    design = read_design(arguments, folders)
    seeds = range(design.base_seed, design.base_seed + settings["seeds"])
    points = points_of(design, settings["retune"], settings["retune_trials"], place)
    runs = ArmRuns(Sweep(place), design, points, seeds.stop)
    runs.sweep.tally.ranked = False  # arms are compared over all seeds, at the end
    if settings["mode"] == "select":
        rounds = grow(runs, design.parts, seeds, settings["first_seeds"], settings["level"])
        compared = steps_of(rounds)
    else:
        rounds, compared = [], comparisons(settings["mode"], design.parts)
        runs.tune(distinct(compared))
        runs.measure(distinct(compared), seeds)
    effects = of_all([effect_of(c, runs, settings["level"]) for c in compared], settings["level"])
    write(runs.sweep.folder, settings, design, runs, effects, rounds)
    say(effects, runs, settings, rounds)
    return [outcome for arm in runs.results.values() for outcome in arm.values()]


def steps_of(rounds: Sequence[dict[str, Any]]) -> list[Comparison]:
    """The comparisons of ``mode=select``: in each round, every candidate against the list of that round."""
    before: Arm = ()
    found = []
    for entry in rounds:
        for name in entry["candidates"]:
            arm = tuple(name.split(" + "))
            new = next(part for part in arm if part not in before)
            found.append(Comparison(f"{new} added to {arm_name(before)}", arm, before))
        before = tuple(entry["chosen"])
    return found


def effect_of(compared: Comparison, runs: ArmRuns, level: float) -> Effect:
    """The effect of one comparison."""
    return effect(compared, runs.overrides(compared.treated), runs.results, sign_of(runs) > 0, level)


def write(
    folder: Path,
    settings: dict[str, Any],
    design: Design,
    runs: ArmRuns,
    effects: Sequence[Effect],
    rounds: Sequence[Any],
) -> None:
    """Write ``ablation.json``, which the page reads."""
    objectives = [o.summary.objective for arm in runs.results.values() for o in arm.values()]
    chosen_by = next((o["name"] for o in objectives if o.get("name")), None)
    content = {
        "metric": chosen_by and f"test/{chosen_by.rpartition('/')[2]}",
        "chosen_by": chosen_by,
        "direction": "maximize" if sign_of(runs) > 0 else "minimize",
        "mode": settings["mode"],
        "level": settings["level"],
        "seeds": settings["seeds"],
        "baseline": arm_name(design.parts if settings["mode"] == "drop" else ()),
        "retuned": {arm_name(arm): found for arm, found in runs.tuned.items() if found},
        "rounds": list(rounds),
        "arms": [asdict(e) for e in effects],
    }
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / "ablation.json", lambda partial: partial.write_text(text))
