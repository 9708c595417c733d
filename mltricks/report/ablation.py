"""The section of an ablation: the verdicts in words, the numbers, a forest plot, and the table for a paper."""

from __future__ import annotations

from mltricks.ablation.paper import latex, markdown
from mltricks.ablation.words import (
    Compared,
    Found,
    between,
    corrected,
    decimals,
    lost,
    metric_words,
    percent,
    sentence,
    short_verdict,
    signed,
)
from mltricks.figures.forest import Row, forest
from mltricks.figures.parts import Cell, Chart, Code, Compact, Folded, Part, Section, Text, Verdicts

TONES = {"helps": "good", "hurts": "bad"}


def section(found: Found) -> Section:
    """The section, from the content of ``ablation.json``."""
    arms = found["arms"]
    parts: list[Part] = [Verdicts([(sentence(arm, found), tone(arm)) for arm in arms]), table(found)]
    if any(arm["difference"] is not None for arm in arms):
        parts.append(Chart("forest", plot(found)))
    paper: list[Part] = [Text("Markdown"), Code(markdown(found)), Text("LaTeX"), Code(latex(found))]
    parts += [Text(notes(found)), *settings(found), Folded("Table for a paper", paper)]
    return Section("Ablation", parts, name="ablation")


def tone(arm: Compared) -> str:
    """The colour of a verdict."""
    return TONES.get(short_verdict(arm), "")


def table(found: Found) -> Compact:
    """A row for each comparison: the difference with its interval, the cost and the verdict."""
    places = decimals(found["arms"])
    return Compact(["comparison", "difference", "time", "verdict"], [row(arm, places) for arm in found["arms"]])


def row(arm: Compared, places: int) -> list[Cell]:
    """The cells of a comparison."""
    interval = between(arm["difference_interval"], places) if arm["difference_interval"] else ""
    difference = "" if arm["difference"] is None else signed(arm["difference"], places)
    p_value = "" if arm["p_holm"] is None else f"p {arm['p_holm']:.2g}"
    return [
        Cell(arm["name"], "; ".join([f"n = {arm['n']}", *([lost(arm["lost"])] if arm["lost"] else [])])),
        Cell(difference, interval),
        Cell("" if arm["cost_ratio"] is None else f"{arm['cost_ratio']:.2f}"),
        Cell(short_verdict(arm), p_value, tone(arm)),
    ]


def plot(found: Found) -> dict[str, object]:
    """The forest plot of the comparisons that have a difference."""
    rows, places = [], decimals(found["arms"])
    for arm in found["arms"]:
        if arm["difference"] is not None:
            low, high = arm["difference_interval"] or (None, None)
            rows.append(Row(arm["name"], arm["difference"], low, high, hovered(arm, places), tone(arm)))
    level = percent(found["level"])
    return forest(rows, f"difference of {metric_words(found['metric'])}, {level} interval")


def hovered(arm: Compared, places: int) -> str:
    """What the pointer shows of a comparison."""
    interval = f" ({between(arm['difference_interval'], places)})" if arm["difference_interval"] else ""
    return f"{arm['name']}: {signed(arm['difference'], places)}{interval}, {short_verdict(arm)}"


def notes(found: Found) -> str:
    """How to read the numbers."""
    count, better = corrected(found), "higher" if found["direction"] == "maximize" else "lower"
    holm = f", corrected for all {count} comparisons (Holm)" if count > 1 else ""
    chosen = f"the epochs{' and the retuned settings' if found['retuned'] else ''}"
    return (
        f"Difference: mean over paired seeds of {metric_words(found['metric'])} ({better} is better) with the change "
        f"minus without it; each {percent(found['level'])} interval is for one comparison. Verdict and p{holm}: of a "
        "paired t-test. Time: of a run with the change divided by one without; empty if one was run in a stack "
        f"and the other alone, which fuse=false avoids. {metric_words(found['chosen_by']).capitalize()} chose {chosen}."
    )


def settings(found: Found) -> list[Part]:
    """What was tuned for each arm, and how a selection went; nothing if neither was done."""
    tuned = [[Cell(arm), Cell(" ".join(values))] for arm, values in found["retuned"].items()]
    rounds = [
        [Cell(str(i)), Cell(raced(entry["candidates"])), Cell(" + ".join(entry["chosen"]) or "none")]
        for i, entry in enumerate(found["rounds"], 1)
    ]
    tables = [
        ("Settings tuned for each arm", ["arm", "settings"], tuned),
        ("Rounds of the selection", ["round", "candidates and their seeds", "chosen"], rounds),
    ]
    return [Folded(title, [Compact(head, rows)]) for title, head, rows in tables if rows]


def raced(candidates: dict[str, int]) -> str:
    """The candidates of a round with the seeds that each was run with."""
    return ", ".join(f"{name} ({seeds})" for name, seeds in candidates.items())
