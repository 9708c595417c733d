"""The state of a sweep, and warnings about its result."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mltricks.report.collect import Collected
from mltricks.report.leaderboard import Group
from mltricks.report.slices import Edge

UNFINISHED = ("unfinished", "interrupted")


def state(sweep: Collected) -> dict[str, Any]:
    """The numbers in the header of the page."""
    counts = Counter(row.status for row in sweep.rows)
    done = len(sweep.rows) - sum(counts[status] for status in UNFINISHED)
    total = max(sweep.origin.planned or 0, len(sweep.rows))
    finished = sweep.origin.finished if sweep.origin.finished is not None else done == total
    return {
        "finished": finished,
        "done": done,
        "total": total,
        "counts": dict(counts),
        "seconds": sweep.origin.seconds,
        "training_seconds": round(sum(row.seconds for row in sweep.rows), 3),
        "started": sweep.origin.started,
        "sweeper": sweep.origin.sweeper,
        "set_aside": sweep.set_aside,
    }


def warnings(sweep: Collected, found: list[Group], at_edge: list[Edge]) -> list[str]:
    """Warnings about the result."""
    now = state(sweep)
    texts = []
    if not now["finished"]:
        texts.append(
            f"The sweep is not finished: {now['done']} of {now['total']} jobs have a result. "
            "The same command continues it."
        )
    if lost := now["counts"].get("failed", 0):
        texts.append(f"{lost} of {len(sweep.rows)} jobs failed; their messages are under Failures.")
    if sweep.recipe is not None:
        return [
            *texts,
            "The jobs of a recipe differ in purpose and length, so the ranks of the leaderboard mean little.",
        ]
    return [*texts, *doubts(sweep, found), *(f"{edge.text} Next: {edge.override}" for edge in at_edge)]


def doubts(sweep: Collected, found: list[Group]) -> list[str]:
    """Reasons why the first of the leaderboard may not be the best."""
    whole = [group for group in found if group.score]
    if not whole:
        return ["No job has a result that can be compared."]
    measures = list(dict.fromkeys(group.measured_on for group in whole))
    if len(measures) > 1:
        return [
            f"The jobs were measured on different data or by different metrics ({'; '.join(measures)}): their scores "
            "cannot be compared. They are ranked separately, and there is no overall best."
        ]
    best, texts = whole[0], []
    if best.score and best.trivial is not None and sweep.sign * (best.score.mean - best.trivial) <= 0:
        texts.append(f"The best is no better than a constant prediction, which has {best.trivial:.4g}.")
    tied = sum(group.rank == 1 for group in whole)
    if tied > 1:
        texts.append(f"{tied} of the {len(whole)} configurations have the same best score: which is best is not known.")
    diverged = sum(sweep.rows[i].status == "diverged" for i in best.rows)
    if diverged:
        texts.append(
            f"{diverged} of the {best.n} runs of the best configuration diverged; its mean is over the others."
        )
    if len(whole) > 1 and all(group.n == 1 for group in whole):
        texts.append(
            f"Each of the {len(whole)} configurations ran once: differences as large as those between seeds are "
            "chance. To compare the best ones, run them with several seeds."
        )
    elif len(whole) > 1 and tied == 1 and overlap(best, whole[1]):
        texts.append("The intervals of the two best configurations overlap: which is better is not settled.")
    return texts


def overlap(a: Group, b: Group) -> bool:
    """Whether two intervals overlap."""
    return a.score is not None and b.score is not None and a.score.low <= b.score.high and b.score.low <= a.score.high
