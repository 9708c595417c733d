"""The section of a recipe: a row for each step with its verdict, one sentence and a small figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mltricks.figures.gates import gate_figure
from mltricks.figures.parts import Section, Step, Steps

TONES = {"pass": "good", "warn": "bad", "fail": "fail"}
VERDICTS = {"warn": "warning", "fail": "failed", "pass": "passed"}


def section(gates: Sequence[dict[str, Any]]) -> Section:
    """The section, from the gates of ``recipe.json``."""
    return Section("Recipe", [Steps([step(gate) for gate in gates])], name="recipe")


def cards(best: dict[str, Any] | None) -> list[tuple[str, Any, str]]:
    """Large numbers for the result: the test split, and the linear model that it should beat.

    Args:
        best: the record of the best configuration in ``recipe.json``; ``None`` if there is none yet.
    """
    found = best or {}
    score = str((found.get("objective") or {}).get("name", "")).rpartition("/")[2]
    shown = [(f"test {name}", value, "") for name, value in (found.get("test") or {}).items() if name == score]
    linear = (found.get("floor") or {}).get("linear model")
    return [*shown, *([("linear model, validation", linear, "")] if linear is not None else [])]


def step(gate: dict[str, Any]) -> Step:
    """The row of a gate."""
    chart, reason = gate["chart"], str(gate["reason"])
    spent = f"{gate['epochs']:.3g} epochs of the budget, {gate['seconds']:.0f} s in the jobs."
    return Step(
        label=gate["label"],
        name=gate["name"],
        verdict=VERDICTS.get(gate["verdict"], gate["verdict"]),
        tone=TONES.get(gate["verdict"], ""),
        words=f"{reason[:1].upper()}{reason[1:]}",
        figure=gate_figure(chart) if chart else None,
        advice=gate["advice"],
        more=[*filter(None, [gate["more"]]), spent],
        jobs=gate["jobs"],
    )
