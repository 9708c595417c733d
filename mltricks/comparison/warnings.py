"""Reasons to be careful with a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mltricks.comparison.entry import Entry
from mltricks.comparison.grouping import Configuration
from mltricks.comparison.scores import Score, metric_of, score


def warnings(found: Sequence[Configuration], names: Sequence[str], first: int | None) -> list[str]:
    """All warnings besides those about the data.

    Args:
        found: the configurations.
        names: the label of each.
        first: the best configuration; ``None`` if none is known.
    """
    entries = [entry for one in found for entry in one.entries]
    unsure = () if first is None else doubts(found, names, first)
    return [*ends(entries), *repeats(found), *unsure, *surroundings(entries)]


def ends(entries: Sequence[Entry]) -> Iterator[str]:
    """A sentence for every run that did not train to its end; its scores are left out of means and intervals."""
    for entry in entries:
        if not entry.counts:
            status = entry.summary.status
            why = f": {entry.summary.error.splitlines()[0]}" if entry.summary.error and status != "diverged" else ""
            said = (entry.summary.error or status) if status == "diverged" else f"is {status}{why}"
            yield f"{entry.name} {said}{'' if said.endswith('.') else '.'} Its scores are left out."


def repeats(found: Sequence[Configuration]) -> Iterator[str]:
    """A sentence for every run that repeats another one."""
    for entry, first in [pair for one in found for pair in one.repeats]:
        a, b = entry.summary.objective.get("value"), first.summary.objective.get("value")
        differ = a is not None and b is not None and a != b
        but = f", although their scores differ ({a:.4g} and {b:.4g})" if differ else ""
        yield f"{entry.name} has the configuration and seed of {first.name} and is not counted{but}."


def doubts(found: Sequence[Configuration], names: Sequence[str], first: int) -> Iterator[str]:
    """Why the best configuration may not be the best."""
    metric, _ = metric_of(found)
    if len(found) < 2:
        return
    if max(len(one.whole) for one in found) < 2:
        yield (
            "Each configuration ran once: differences as large as those between seeds are chance. Repeat the runs with "
            "other seeds, as seed=1 and seed=2."
        )
        return
    scores = [score(one, "val", metric) for one in found]
    single = [name for name, s in zip(names, scores, strict=True) if s is not None and s.low is None]
    if single:
        yield f"One seed alone ran of {', '.join(single)}: the spread is not known."
    tied = [names[i] for i, s in enumerate(scores) if i != first and overlap(s, scores[first])]
    if tied:
        yield f"The interval of {names[first]} overlaps that of {', '.join(tied)}: which is better is not settled."


def overlap(a: Score | None, b: Score | None) -> bool:
    """Whether both scores have intervals, and these overlap."""
    if a is None or b is None or a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low <= b.high and b.low <= a.high


def surroundings(entries: Sequence[Entry]) -> Iterator[str]:
    """A sentence if the runs' times or numbers may differ for another reason than their configuration."""
    done = [entry.summary for entry in entries if entry.summary.versions]
    for name in ("mltricks", "torch"):
        found = sorted({str(summary.versions.get(name)) for summary in done})
        if len(found) > 1:
            yield f"The runs used different versions of {name}: {', '.join(found)}."
    commits = sorted({str(summary.git["commit"])[:10] for summary in done if summary.git})
    if len(commits) > 1:
        yield f"The code was at different git commits: {', '.join(commits)}."
    devices = sorted({summary.device for summary in done if summary.device})
    if len(devices) > 1:
        yield f"The runs were computed on different devices ({', '.join(devices)}): their times do not compare."
    if any(summary.fused for summary in done):
        yield "Some runs were trained in a stack: their time is that of the whole stack."
