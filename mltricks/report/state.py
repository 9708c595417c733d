"""The state of a sweep, and warnings about its result."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mltricks.figures.page import shown
from mltricks.report.collect import COUNTED, Collected
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


def subtitle(sweep: Collected) -> str:
    """Folder of a sweep with a name, sweeper, start, attempts that are not shown, tags and notes."""
    said = [sweep.folder.resolve().name] if sweep.name else []
    said += [f"sweeper {sweep.origin.sweeper}"] if sweep.origin.sweeper else []
    said += [f"started {sweep.origin.started.replace('T', ' ')[:16]}"] if sweep.origin.started else []
    said += [f"{sweep.set_aside} interrupted attempts left out"] if sweep.set_aside else []
    said += [", ".join(sweep.tags)] if sweep.tags else []
    return " · ".join([*said, sweep.notes] if sweep.notes else said)


def cards(sweep: Collected, found: list[Group], best: Group | None) -> list[tuple[str, Any, str]]:
    """The large numbers at the top: label, value, and whether it is good or bad."""
    now = state(sweep)
    made = [
        ("state", "finished" if now["finished"] else "not finished", "good" if now["finished"] else "bad"),
        (f"jobs done: {ends(sweep)}", f"{now['done']} of {now['total']}", "bad" if num_lost(sweep) else ""),
        best_card(sweep, best),
    ]
    if best and best.trivial is not None:
        made.append(("trivial predictor: a constant prediction", best.trivial, ""))
    made.append(("configuration" if len(found) == 1 else "configurations", len(found), ""))
    wall = now["seconds"]
    taken = now["training_seconds"] if wall is None else wall
    return [*made, ("training time, all jobs" if wall is None else "wall time", duration(taken), "")]


def best_card(sweep: Collected, best: Group | None) -> tuple[str, Any, str]:
    """The best value; on a recipe's page that of the configuration it kept."""
    if sweep.ended_with:
        value = (sweep.ended_with.get("objective") or {}).get("value")
        return f"{sweep.objective} of the configuration kept", value, ""
    if best is None or best.score is None:
        return f"best {sweep.objective}", "-", ""
    half = f" ± {shown(max(best.score.mean - best.score.low, best.score.high - best.score.mean))}"
    half = half if best.interval_of not in ("", "split") else ""
    of = f", mean of {best.n}" if best.n > 1 else ""
    return f"best {sweep.objective}{of}", shown(best.score.mean) + half, ""


ENDS = {
    "completed": "with a result",
    "stopped_early": "stopped early with a result",
    "diverged": "diverged",
    "failed": "failed",
    "pruned": "pruned",
    "interrupted": "interrupted",
    "unfinished": "unfinished",
}
"""Words for how a job ended."""


def ends(sweep: Collected) -> str:
    """How many jobs ended in which way."""
    counts = Counter(row.status for row in sweep.rows)
    return ", ".join(f"{n} {ENDS.get(status, status)}" for status, n in sorted(counts.items(), key=place_of))


def place_of(counted: tuple[str, int]) -> int:
    """The order of ``ENDS``."""
    return list(ENDS).index(counted[0]) if counted[0] in ENDS else len(ENDS)


def num_lost(sweep: Collected) -> int:
    """Number of jobs that failed or diverged."""
    return sum(row.status in ("failed", "diverged") for row in sweep.rows)


def counted(sweep: Collected) -> str:
    """What the section on failures says above the messages."""
    if all(row.status in COUNTED for row in sweep.rows):
        return "None: every job that started has finished."
    why = " Pruned jobs were stopped on purpose, because others were better at the same epoch."
    pruned = any(row.status == "pruned" for row in sweep.rows)
    return f"Of {len(sweep.rows)} jobs: {ends(sweep)}.{why if pruned else ''}"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> duration(1.234), duration(600), duration(9000)
    ('1.2 s', '10.0 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
    if sweep.recipe is not None or sweep.ablation is not None:
        return texts  # what they found is in their own sections; ranks of their jobs mean little
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
