"""The sweeper ``ablation``: the effect of each technique or value, with paired seeds and intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mltricks.ablation.arms import Arm, Comparison, arm_name, comparisons, distinct, instead_name
from mltricks.ablation.design import Design, check_mode, key_of, read_design
from mltricks.ablation.effects import Effect, effect, of_all
from mltricks.ablation.lacking import with_lacks
from mltricks.ablation.paper import write_tables
from mltricks.ablation.retune import points_of
from mltricks.ablation.runs import ArmRuns
from mltricks.ablation.select import candidates_of, grow, sign_of
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
        ValueError: a setting is wrong, values cannot be compared, or there is nothing to compare.
    """
    check(settings)
    design = design_of(settings, place, arguments)
    seeds = range(design.base_seed, design.base_seed + settings["seeds"])
    points = points_of(design, settings["retune"], settings["retune_trials"], place)
    runs = ArmRuns(Sweep(place), design, points, range(seeds.stop, seeds.stop + settings["retune_seeds"]))
    runs.sweep.tally.ranked = False  # arms are compared over all seeds, at the end
    if settings["mode"] == "select":
        rounds = grow(runs, design, seeds, settings["first_seeds"], settings["level"])
        compared = steps_of(rounds, design)
    else:
        rounds, compared = [], comparisons(settings["mode"], design.parts, design.factors)
        runs.tune(distinct(compared))
        runs.measure(distinct(compared), seeds)
    check_metric(runs)
    effects = of_all([effect_of(c, runs, settings["level"]) for c in compared], settings["level"])
    write(runs.sweep.folder, settings, design, runs, effects, rounds)
    say(effects, runs, settings, rounds)
    return [outcome for arm in runs.results.values() for outcome in arm.values()]


def design_of(settings: dict[str, Any], place: Place, arguments: list[str]) -> Design:
    """The parsed command, checked against the settings of the sweeper.

    Raises:
        ValueError: values cannot be compared, or a setting is both compared and tuned.
    """
    folders = [Path(s.path) for s in place.config.hydra.runtime.config_sources if s.schema == "file"]
    design = with_lacks(read_design(arguments, folders), settings["retune"], place)
    check_mode(design, settings["mode"])
    for factor in design.factors:
        if (key := key_of(factor.control)) in settings["retune"]:
            raise ValueError(f"retune={key}: {key} has several values, which are compared. Leave one of the two out.")
    return design


def check_metric(runs: ArmRuns) -> None:
    """Refuse to compare arms that were scored by different metrics.

    Raises:
        ValueError: names the metrics.
    """
    objectives = [o.summary.objective for arm in runs.results.values() for o in arm.values()]
    names = sorted({str(o["name"]) for o in objectives if o.get("name")})
    if len(names) > 1:
        raise ValueError(
            f"the arms were scored by {' and '.join(names)}, which cannot be compared. Type one objective_metric."
        )


def steps_of(rounds: Sequence[dict[str, Any]], design: Design) -> list[Comparison]:
    """The comparisons of ``mode=select``: in each round, every candidate against the parts of that round."""
    before: Arm = ()
    found = []
    for entry in rounds:
        for part, arm in candidates_of(design, before).items():
            factor = design.alternatives.get(part)
            name = instead_name(part, factor) if factor else part
            rival = factor.control_value if factor else ""
            found.append(Comparison(f"{name} added to {arm_name(before)}", arm, before, part, rival))
        before = tuple(entry["chosen"])
    return found


def effect_of(compared: Comparison, runs: ArmRuns, level: float) -> Effect:
    """The effect of one comparison."""
    found = effect(compared, runs.overrides(compared.treated), runs.results, sign_of(runs) > 0, level)
    return replace(found, treated=runs.design.name(compared.treated), control=runs.design.name(compared.control))


def write(
    folder: Path,
    settings: dict[str, Any],
    design: Design,
    runs: ArmRuns,
    effects: Sequence[Effect],
    rounds: Sequence[Any],
) -> None:
    """Write ``ablation.json``, which the page reads, and its table for a paper."""
    objectives = [o.summary.objective for arm in runs.results.values() for o in arm.values()]
    chosen_by = next((o["name"] for o in objectives if o.get("name")), None)
    content = {
        "metric": chosen_by and f"test/{chosen_by.rpartition('/')[2]}",
        "chosen_by": chosen_by,
        "direction": "maximize" if sign_of(runs) > 0 else "minimize",
        "mode": settings["mode"],
        "level": settings["level"],
        "seeds": settings["seeds"],
        "baseline": design.name(design.parts if settings["mode"] == "drop" else ()),
        "retuned": {design.name(arm): found for arm, found in runs.tuned.items() if found},
        "rounds": list(rounds),
        "arms": [asdict(e) for e in effects],
    }
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / "ablation.json", lambda partial: partial.write_text(text))
    write_tables(folder, content)
