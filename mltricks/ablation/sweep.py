"""What each technique of a stack is worth, with paired seeds and intervals; the sweeper ``ablation``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mltricks.ablation.arms import Arm, Comparison, Plan, arm_name, comparisons, distinct, read_plan
from mltricks.ablation.effects import Effect, effect, of_all
from mltricks.ablation.retune import points_of
from mltricks.ablation.select import grow, sign_of
from mltricks.ablation.settings import check
from mltricks.ablation.table import say
from mltricks.ablation.trials import Trials
from mltricks.process.atomic import write_atomically
from mltricks.summary import json_safe
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.runner import Place, Sweep


def sweep(settings: dict[str, Any], place: Place, arguments: list[str]) -> list[Outcome]:
    """Run every arm with every seed, and say what the differences prove.

    Args:
        settings: of ``conf/hydra/sweeper/ablation.yaml``.
        place: where the sweep happens.
        arguments: the overrides of the command.

    Raises:
        ValueError: a setting is wrong, a value is swept, or there is nothing to leave out.
    """
    check(settings)
    folders = [Path(s.path) for s in place.config.hydra.runtime.config_sources if s.schema == "file"]
    plan = read_plan(arguments, folders)
    seeds = range(plan.base_seed, plan.base_seed + settings["seeds"])
    points = points_of(plan, settings["retune"], settings["retune_trials"], place)
    trials = Trials(Sweep(place), plan, points, seeds.stop)
    if settings["mode"] == "select":
        rounds = grow(trials, plan.parts, seeds, settings["first_seeds"], settings["level"])
        compared = steps_of(rounds)
    else:
        rounds, compared = [], comparisons(settings["mode"], plan.parts)
        trials.tune(distinct(compared))
        trials.measure(distinct(compared), seeds)
    effects = of_all([judge(c, trials, settings["level"]) for c in compared], settings["level"])
    write(trials.sweep.folder, settings, plan, trials, effects, rounds)
    say(effects, trials, settings, rounds, trials.sweep.folder)
    return [outcome for arm in trials.results.values() for outcome in arm.values()]


def steps_of(rounds: Sequence[dict[str, Any]]) -> list[Comparison]:
    """Every candidate of every round against the stack that it would have been added to."""
    before: Arm = ()
    found = []
    for entry in rounds:
        for name in entry["candidates"]:
            arm = tuple(name.split(" + "))
            new = next(part for part in arm if part not in before)
            found.append(Comparison(f"{new} added to {arm_name(before)}", arm, before))
        before = tuple(entry["chosen"])
    return found


def judge(compared: Comparison, trials: Trials, level: float) -> Effect:
    """The effect of one comparison."""
    return effect(compared, trials.overrides(compared.treated), trials.results, sign_of(trials) > 0, level)


def write(
    folder: Path, settings: dict[str, Any], plan: Plan, trials: Trials, effects: Sequence[Effect], rounds: Sequence[Any]
) -> None:
    """Write ``ablation.json``, which the page shows."""
    objectives = [o.summary.objective for arm in trials.results.values() for o in arm.values()]
    chosen_by = next((o["name"] for o in objectives if o.get("name")), None)
    content = {
        "metric": chosen_by and f"test/{chosen_by.rpartition('/')[2]}",
        "chosen_by": chosen_by,
        "direction": "maximize" if sign_of(trials) > 0 else "minimize",
        "mode": settings["mode"],
        "level": settings["level"],
        "seeds": settings["seeds"],
        "baseline": arm_name(plan.parts if settings["mode"] == "drop" else ()),
        "retuned": {arm_name(arm): found for arm, found in trials.tuned.items() if found},
        "rounds": list(rounds),
        "arms": [asdict(e) for e in effects],
    }
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / "ablation.json", lambda partial: partial.write_text(text))
