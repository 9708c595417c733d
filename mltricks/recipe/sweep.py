"""The sweeper ``recipe``: seven steps of tuning, each with a gate; deterministic in the outcomes of its jobs.

Source: CS231n, "Without tons of GPUs".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltricks.config.names import shown
from mltricks.config.stages import stage_names
from mltricks.jobs import own_searchpath
from mltricks.observers.formats import WIDTH, duration, number, wrapped
from mltricks.recipe.best import write_best
from mltricks.recipe.coarse import domains_of, search_coarsely
from mltricks.recipe.final import run_final
from mltricks.recipe.floor import measure_floor
from mltricks.recipe.gate import GateFailed
from mltricks.recipe.initial import check_budget, check_initial_loss
from mltricks.recipe.memorise import overfit_small_sample
from mltricks.recipe.rates import find_rates
from mltricks.recipe.reading import read_best
from mltricks.recipe.refine import refine
from mltricks.recipe.rounds import round_again
from mltricks.recipe.tuner import Tuner, changed
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.ranges import Span
from mltricks.sweep.runner import Place, Sweep

OWN = ("epochs", "max_steps", "job", "resume", "checkpoint", "input", "show")
"""Settings that the recipe chooses itself."""


def sweep(settings: dict[str, Any], place: Place, arguments: list[str]) -> list[Outcome]:
    """Run the seven steps; return the outcomes of all jobs.

    Args:
        settings: the settings of ``conf/hydra/sweeper/recipe.yaml``.
        place: where the sweep runs.
        arguments: the overrides of the command.

    Raises:
        ValueError: a setting is wrong, or the command sets a key that the recipe chooses.
        GateFailed: a step found a problem that makes further tuning useless.
    """
    from mltricks.config.compose import plain
    from mltricks.sweep.option_sets import Compositions

    check_settings(settings)
    base = check_arguments(arguments, place.context.config_loader)
    compositions = Compositions(place.context.config_loader, place.config)
    cfg, started = plain(compositions.plain(base)), None
    if stage_names(cfg["stages"]):
        started = Sweep(place)
        base = of_last_stage(cfg, base, started.folder)
        cfg = plain(compositions.plain(base))
    tuner = Tuner(None, base, cfg, settings)  # type: ignore[arg-type]
    domains_of(tuner, Span(1e-6, 1.0, log=True), compositions)  # refuse a mistyped key before the first job
    tuner.floor = measure_floor(tuner.cfg, check_budget(tuner.cfg, settings["budget_epochs"]))
    tuner.sweep = started or Sweep(place)
    tuner.sweep.tally.shared = frozenset(base)
    try:
        go_through(tuner, compositions, place)
    except GateFailed:
        tuner.write("stopped")
        raise
    return tuner.outcomes


def of_last_stage(cfg: dict[str, Any], base: list[str], folder: Path) -> list[str]:
    """The overrides of the last stage as a run of its own, which is tuned once the stages before it have run."""
    from mltricks.stages.run import last_stage
    from mltricks.train import train

    name = cfg["stages"]["only"] or stage_names(cfg["stages"])[-1]
    print(f"tuning the stage {name}; those before it run once", flush=True)
    own = own_searchpath()  # the recipe composes with the folders that Hydra has
    command = last_stage(cfg, [*own, *base], folder, train)
    return [text for text in command if text not in own and text.partition("=")[0] not in OWN]


def go_through(tuner: Tuner, compositions: Any, place: Place) -> None:
    """Run the steps in order, and write the result."""
    start = check_initial_loss(tuner)
    ignorant = tuner.ground.ignorant(start["expected"])
    overfit_small_sample(tuner)
    domains = domains_of(tuner, find_rates(tuner, start["val_loss"]), compositions)
    point, _ = search_coarsely(tuner, domains, ignorant)
    trial, domains, updates = refine(tuner, domains, point)
    if trial is None:
        raise GateFailed("no trial of the refined search completed, so the recipe cannot continue.")
    findings = read_best(tuner, trial, ignorant, updates)
    trial = round_again(tuner, trial, findings, domains, updates, ignorant)
    outcome, changes = run_final(tuner, trial, updates)
    groups = [group for group in place.context.config_loader.list_groups("")]
    tuner.best = write_best(tuner.folder, changed(tuner.base, changes), groups, outcome)
    tuner.best["floor"] = tuner.ground.evidence(outcome.summary.objective)
    tuner.write("finished")
    conclude(tuner)


def conclude(tuner: Tuner) -> None:
    """Print the result of the recipe."""
    assert tuner.best is not None, "the final run has been made"
    seconds = sum(outcome.summary.seconds for outcome in tuner.outcomes)
    objective, budget = tuner.best["objective"], tuner.settings["budget_epochs"]
    tested = [f"{name} {number(value)}" for name, value in tuner.best["test"].items()]
    said = [
        ["best", f"job {tuner.best['job']}:", f"{objective['name']} {number(objective['value'])}"],
        ["test", *tested],
        *([["", text]] if (text := tuner.ground.say(objective)) else []),
        ["spent", f"{tuner.money.spent_epochs:.4g} of {budget:g} epochs,", f"{duration(seconds)} in the jobs"],
    ]
    for head, *parts in said:
        print("\n".join(wrapped(f"{head:<6}", parts, WIDTH)))
    print(f"  {tuner.best['command']}")
    print(f"  {tuner.best['experiment_command']}")


def check_arguments(arguments: list[str], config_loader: Any) -> list[str]:
    """Check that every override has a single value.

    Raises:
        ValueError: several values for a key, or a key that the recipe chooses.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for override in OverridesParser.create(config_loader=config_loader).parse_overrides(arguments):
        key = override.get_key_element()
        if override.is_sweep_override():
            raise ValueError(
                f"{shown(override)}: the recipe takes one value. Type tune={key} to have it "
                "searched over its range, or hydra/sweeper=grid to try them all."
            )
        if key.lstrip("+") in OWN:
            raise ValueError(
                f"{shown(override)}: the recipe chooses {key} itself. Leave it out; "
                "budget_epochs=100 bounds all runs together."
            )
    return list(arguments)


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings of the wrong type or out of range.

    Raises:
        ValueError: names the key, its value and the allowed values.
    """
    from mltricks.config.values import Decay, Positive, Size, check_value

    hints = {"budget_epochs": Positive, "force": bool, "tune": list[str], "schedule": str, "warmup_frac": Decay}
    for name, hint in {**hints, "search_seed": Size}.items():
        value = settings[name]
        check_value(name, list(value) if name == "tune" else value, hint)
