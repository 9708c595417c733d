"""Greedy forward selection of techniques: the candidates race in rounds, and a winner must beat the current list.

Source: Maron and Moore, "Hoeffding Races", NeurIPS 1994; with paired t-intervals instead of Hoeffding's bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from mltricks.ablation.arms import Arm, arm_name
from mltricks.ablation.design import Design
from mltricks.ablation.effects import values
from mltricks.ablation.runs import ArmRuns
from mltricks.sweep.statistics import paired_interval


def grow(runs: ArmRuns, design: Design, seeds: Sequence[int], first: int, level: float) -> list[dict[str, Any]]:
    """Add one part after another as long as one helps.

    Args:
        runs: launches the arms.
        design: the candidates: its parts in their order, then the alternatives of its factors.
        seeds: the paired seeds.
        first: number of seeds of every candidate before any is dropped.
        level: confidence of a decision.

    Returns:
        One entry per round: ``chosen``, the parts after the round; ``candidates``, the seeds used by each.
    """
    chosen: Arm = ()
    rounds: list[dict[str, Any]] = []
    while candidates := candidates_of(design, chosen):
        winner = race(runs, chosen, list(candidates.values()), seeds, first, level)
        raced = {arm_name(c): len(runs.results[c]) for c in candidates.values()}
        grown = winner is not None and gain(runs, winner, chosen, level)[0] > 0
        chosen = winner if grown and winner is not None else chosen
        rounds.append({"chosen": list(chosen), "candidates": raced})
        if not grown:
            break
    return rounds


def candidates_of(design: Design, chosen: Arm) -> dict[str, Arm]:
    """The arms with one part more, by that part; a factor of which an alternative is chosen has no more candidates."""
    factors = design.alternatives
    settled = [factors[part] for part in chosen if part in factors]
    every = [*design.parts, *factors]
    new = [part for part in every if part not in chosen and factors.get(part) not in settled]
    return {part: tuple(p for p in every if p in chosen or p == part) for part in new}


def race(
    runs: ArmRuns, current: Arm, candidates: Sequence[Arm], seeds: Sequence[int], first: int, level: float
) -> Arm | None:
    """The last remaining candidate, or the best of those that remain when all seeds are used.

    A candidate is dropped when it is proven worse than the best candidate or than the current list.
    """
    runs.tune([current, *candidates])
    alive, used = list(candidates), min(first, len(seeds))
    while True:
        runs.measure([current, *alive], seeds[:used])
        alive = [c for c in alive if len(values(runs.results[c])) > 1 and gain(runs, c, current, level)[1] > 0]
        if not alive:
            return None
        best = max(alive, key=lambda arm: score(runs, arm))
        alive = [c for c in alive if c == best or gain(runs, c, best, level)[1] > 0]
        decided = alive == [best] and gain(runs, best, current, level)[0] > 0
        if decided or used == len(seeds):
            return best
        used += 1


def gain(runs: ArmRuns, arm: Arm, other: Arm, level: float) -> tuple[float, float]:
    """The interval of the gain of one arm over another, on their common seeds; positive is better.

    It is unbounded with fewer than two pairs, or if all differences are equal, since their spread is then unknown.
    """
    a, b = values(runs.results[arm]), values(runs.results[other])
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < 2:
        return float("-inf"), float("inf")
    _, low, high = paired_interval([a[s] for s in seeds], [b[s] for s in seeds], level)
    if low == high:
        return float("-inf"), float("inf")
    return (low, high) if sign_of(runs) > 0 else (-high, -low)


def score(runs: ArmRuns, arm: Arm) -> float:
    """The mean of an arm, negated if lower is better."""
    return sign_of(runs) * fmean(values(runs.results[arm]).values())


def sign_of(runs: ArmRuns) -> int:
    """1 if a higher objective is better, else -1."""
    objectives = [o.summary.objective for arm in runs.results.values() for o in arm.values()]
    return -1 if any(o.get("direction") == "minimize" for o in objectives) else 1
