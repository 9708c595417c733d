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
