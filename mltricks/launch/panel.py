"""Evaluate all members of a stack on a split: in one forward pass for all, if that is faster.

Shapes: K members, B samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.data.source import in_order
from mltricks.data.splits import Split
from mltricks.evaluate import Tally, Watch, evaluate, measure_batch
from mltricks.features.scores import scores_of_state
from mltricks.session import Session
from mltricks.state import State, leaves, map_state, rebuild
from mltricks.technique import defines, floats_of

SAMPLES_OF_A_STEP = 4
"""Samples evaluated per training sample: without gradients, 4 samples take no more memory than 1 in a training step."""


class Panel:
    """Evaluates the members of a stack; the first call measures which way is faster.

    Args:
        runs: the runs of all members; they differ only in floats and seeds.
    """

    def __init__(self, runs: Sequence[Run]):
        first = runs[0]
        self.predict, self.objective = first.predict, first.objective
        self.batch_size = first.cfg["eval_batch_size"]
        samples = min(self.batch_size, len(first.data.val))
        self.rows_at_once = max(2, SAMPLES_OF_A_STEP * len(runs) * first.cfg["batch_size"] // samples)
        self.stacks: bool | None = None if predict_alike(runs) else False

    def measure(
        self, sessions: Sequence[Session], state: State, split: Split, step: int, purpose: int, tested: bool = False
    ) -> list[dict[str, float]]:
        """Return the metrics of every member; they equal those of ``evaluate`` up to rounding.

        Args:
            sessions: the sessions of the members to evaluate.
            state: the stacked state, every leaf (K, ...).
            split: the samples, the same for all members.
            step, purpose: arguments of ``Session.reseed``.
            tested: whether to pass the outputs to the members' observers.
        """
        if self.stacks is None:
            self.stacks = self._pays(state, split)
        watch = [[observer.tested for observer in session.observers if tested] for session in sessions]
        if self.stacks and len(sessions) > 1:
            meters = [session.run.metrics.meter() for session in sessions]
            seen: list[list[Watch]] = [[*watching, meter] for watching, meter in zip(watch, meters, strict=True)]
            found = self._together(len(sessions), state, split, seen)
            results = [values | meter.values() for values, meter in zip(found, meters, strict=True)]
        else:
            results = self._one_by_one(sessions, state, split, (step, purpose), watch)
        rows = zip(results, sessions, rows_of(state), strict=True)
        return [values | scores_of_state(session.run, row, split) for values, session, row in rows]

    def _one_by_one(
        self,
        sessions: Sequence[Session],
        state: State,
        split: Split,
        seed: tuple[int, int],
        watch: Sequence[Sequence[Watch]],
    ) -> list[dict[str, float]]:
        """The metrics of every member by ``evaluate``; ``seed``: the arguments of ``Session.reseed``."""
        results = []
        for session, row, watching in zip(sessions, rows_of(state), watch, strict=True):
            session.reseed(*seed)
            run = session.run
            results.append(evaluate(run.predict, run.objective, row, split, self.batch_size, watching, run.metrics))
        return results

    def _together(
        self, num: int, state: State, split: Split, watch: Sequence[Sequence[Watch]]
    ) -> list[dict[str, float]]:
        tally = Tally(self.objective)
        for batch in in_order(split, self.batch_size):
            outputs, judged = self._forward(state, batch)
            tally.add(judged, len(batch["y"]))
            for k, watching in enumerate(watch):
                for see in watching:
                    see(batch, map_state(lambda t: t[k], outputs))  # noqa: B023 (used at once)
        means = {name: values.tolist() for name, values in tally.means().items()}
        return [{name: values[k] for name, values in means.items()} for k in range(num)]

    @torch.no_grad()
    def _forward(self, state: State, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outputs (K, B, ...) and the results of ``measure_batch`` on them, (K, ...)."""

        outputs = torch.vmap(lambda row: self.predict(row, batch["x"]), chunk_size=self.rows_at_once)(state)
        # not under vmap: it would decompose the loss by code that takes a third of a second to import
        num = len(next(iter(leaves(state))))
        rows = [map_state(lambda t: t[k], outputs) for k in range(num)]  # noqa: B023 (used at once)
        judged = [measure_batch(self.objective, row, batch["y"]) for row in rows]
        return outputs, {name: torch.stack([found[name] for found in judged]) for name in judged[0]}

    def _pays(self, state: State, split: Split) -> bool:
        """Measure on the first batch whether one pass for several members is faster than one pass for each."""
        batch = next(in_order(split, self.batch_size))
        rows = rows_of(state)[: self.rows_at_once]
        some = rebuild(state, (leaf[: self.rows_at_once] for leaf in leaves(state)))
        try:
            together = seconds_of(partial(self._forward, some, batch), batch)
        except RuntimeError:  # vmap refuses some operations, such as random draws: then evaluate one by one
            return False
        alone = seconds_of(lambda: measure_batch(self.objective, self.predict(rows[0], batch["x"]), batch["y"]), batch)
        return together < alone * len(rows)


def predict_alike(runs: Sequence[Run]) -> bool:
    """Whether one prediction function serves all members: all floats that affect predictions are equal."""

    def floats(run: Run) -> dict[str, Any]:
        own = {name: floats_of(t) for name, t in run.techniques.items() if defines(t, "evaluate")}
        return own | ({"optim": floats_of(run.optim)} if hasattr(run.optim, "evaluate") else {})

    return all(floats(run) == floats(runs[0]) for run in runs)


def rows_of(state: State) -> list[State]:
    """Split a stacked state into the members' states, as views."""
    return [rebuild(state, iter(row)) for row in zip(*(leaf.unbind() for leaf in leaves(state)), strict=True)]


def seconds_of(do: Callable[[], Any], batch: Batch) -> float:
    """Time of the second call, in s; the first one warms up."""
    for _ in range(2):
        begun = time.perf_counter()
        do()
        if batch["y"].is_cuda:
            torch.cuda.synchronize()
    return time.perf_counter() - begun
