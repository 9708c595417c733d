"""What an option adds to a training step: python benchmarks/costs.py

CPU time of a step with the option divided by that of a step without it, on one thread, eager, for every technique,
sampler and optimiser that the model takes. Both runs make a few steps in turn, so that a slower machine slows both.
``--write`` keeps the table in ``mltricks/evidence/costs.json``, from which the documentation shows it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from harness import environment, origin

import mltricks
from mltricks.build import Run, build
from mltricks.config.cards import read_card
from mltricks.config.compose import plain
from mltricks.config.options import conf_dir
from mltricks.evidence.table import FOLDER
from mltricks.state import reseed_step

MODEL = ("data=digits", "model=convnet", "model.width=16", "epochs=50")
ROUNDS, STEPS = 9, 10
"""Rounds of a comparison, and steps in each; a warm-up round comes first and is not counted."""
GROUPS = ("technique", "sampler", "optim")


class Steps:
    """A run that makes a number of training steps whenever it is called, and tells their CPU time in seconds."""

    def __init__(self, overrides: Sequence[str]):
        self.run: Run = build(plain(mltricks.compose([*overrides, "threads=1"])))
        self.batches = enumerate(self.run.batches())

    def __call__(self, steps: int) -> float:
        start = time.process_time()
        for i, batch in islice(self.batches, steps):
            reseed_step(self.run.cfg["seed"], i)
            self.run.state, _ = self.run.step(self.run.state, batch, self.run.hypers.at(i))
        return time.process_time() - start


def ratios(base: Sequence[str], option: Sequence[str], rounds: int = ROUNDS, steps: int = STEPS) -> list[float]:
    """The ratio of the times of a step in every round.

    Args:
        base: the overrides without the option.
        option: those that it adds.
        rounds: number of ratios, >= 1.
        steps: of both runs in each round, >= 1.
    """
    treated, control = Steps([*base, *option]), Steps(base)
    treated(steps), control(steps)
    return [treated(steps) / control(steps) for _ in range(rounds)]


def needs_of(option: str) -> list[str]:
    """The overrides without which an option is refused, from the line ``Needs`` of its card."""
    group, _, name = option.partition("=")
    fields = read_card(conf_dir() / group / f"{name}.yaml", [conf_dir()]).fields
    return fields.get("Needs", "").partition(" (")[0].split()


def sides(base: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The overrides without an option and those that it adds; what it needs is on both sides where that is possible.

    Raises:
        ValueError: it needs another run.
    """
    needs = needs_of(option)
    if any(need.endswith("=RUN") for need in needs):
        raise ValueError("it needs another run")
    try:
        Steps([*base, *needs])
    except ValueError:  # without the option, what it needs has no effect
        return list(base), [*needs, option]
    return [*base, *needs], [option]


def names_of(group: str) -> list[str]:
    """The options of a group, without private files."""
    return sorted(path.stem for path in (conf_dir() / group).glob("[!_]*.yaml"))


def measured(base: Sequence[str], groups: Sequence[str], rounds: int, steps: int) -> Iterator[dict[str, Any]]:
    """A row for every option: its ratios, or the reason why the model does not take it."""
    for option in (f"{group}={name}" for group in groups for name in names_of(group)):
        try:
            found = ratios(*sides(base, option), rounds, steps)
        except ValueError as error:
            yield {"option": option, "refused": str(error).partition(". ")[0]}
            continue
        numbers = {"median": statistics.median(found), "low": min(found), "high": max(found), "n": len(found)}
        yield {"option": option} | {key: round(value, 3) for key, value in numbers.items()}


def words(row: dict[str, Any]) -> str:
    """A row as a line."""
    if "refused" in row:
        return f"{row['option']:>32}: not measured; {row['refused']}"
    return f"{row['option']:>32}: median {row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f}, n={row['n']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--groups", nargs="+", default=GROUPS)
    parser.add_argument("--write", action="store_true", help="keep the table")
    parser.add_argument("overrides", nargs="*", default=[], help=f"the run; by default {' '.join(MODEL)}")
    options = parser.parse_args()
    base = options.overrides or MODEL
    torch.set_num_threads(1)
    print(environment(), flush=True)
    rows = []
    for row in measured(base, options.groups, options.rounds, options.steps):
        rows.append(row)
        print(words(row), flush=True)
    if options.write:
        command = f"python benchmarks/costs.py {' '.join(sys.argv[1:])}".strip()
        content = {"command": command, "baseline": list(base), "about": origin(), "rows": rows}
        (FOLDER / "costs.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
