"""A stacked run: K trials that differ only in floats and seeds, trained at once by one step over stacked states.

Each trial gets the same batches, hyperparameters and random draws as it would alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mltricks.build import Run, build, pure_step
from mltricks.config.options import option_of
from mltricks.data.order import learns
from mltricks.evaluate import evaluate
from mltricks.features.scores import scores_of_state
from mltricks.inputs.base import saved
from mltricks.predicting import to_predict
from mltricks.schedules.drives import follows_score
from mltricks.stack.feed import Feed, stack
from mltricks.stack.step import StackedStep
from mltricks.stack.structure import own_floats, structure
from mltricks.state import State, leaves, map_state
from mltricks.step import Metrics
from mltricks.technique import floats_of

__all__ = ["StackedResult", "StackedRun", "StackedStep", "build_all", "stack", "train_stacked"]

IDLE = 0.25
"""Shrink a stack when at least this share of its rows is idle."""


class StackedRun:
    """K runs that advance together.

    Args:
        runs: runs of configurations that differ only in floats and seeds; all train on the data of the first.

    Attributes:
        state: the stacked state; ``row`` copies the state of one trial.

    Raises:
        ValueError: the configurations differ in structure; the message names the first difference.
    """

    def __init__(self, runs: Sequence[Run]):
        check_stackable(runs)
        self.runs = list(runs)
        self.rows = list(range(len(runs)))
        """Row of each remaining trial; rows of others are computed along until ``compact`` removes them."""
        self.stacked = self.runs
        self.state = stack([r.state for r in runs])
        self.feed = Feed(runs)
        self.step = traced_before(runs[0], self.feed, len(runs))

    @property
    def num_trials(self) -> int:
        """K, the number of trials that still train."""
        return len(self.runs)

    def advance(self, steps: int, start: int = 0) -> dict[str, Tensor]:
        """Make the updates ``start`` to ``start + steps - 1``.

        Returns:
            The training metrics by name, each (K, steps), on the device, without a CPU-GPU sync.
        """
        made: list[Metrics] = []
        for i in range(start, start + steps):
            self.state, metrics = self.step(self.state, *self.feed.at(i))
            made.append(metrics)
        columns = {name: torch.stack([m[name] for m in made], 1) for name in made[0]}
        return {name: self._alive(column) for name, column in columns.items()}

    def _alive(self, t: Tensor) -> Tensor:
        """The rows of the remaining trials."""
        if len(self.rows) == len(self.stacked):
            return t
        return t.index_select(0, torch.tensor(self.rows, device=t.device))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only some trials; trial ``rows[k]`` becomes trial ``k``.

        The others are computed along until a quarter of the stack is idle, because a stack of another size must be
        traced again.

        Args:
            rows: positions of the trials to keep, ascending, at least one.
        """
        assert len(rows) > 0, "at least one trial stays"
        self.runs, self.rows = [self.runs[k] for k in rows], [self.rows[k] for k in rows]
        if len(self.rows) <= (1 - IDLE) * len(self.stacked):
            self.compact()

    def compact(self) -> None:
        """Remove the idle rows from the stack."""
        self.state = map_state(self._alive, self.state)
        self.stacked, self.rows = self.runs, list(range(len(self.runs)))
        self.feed = Feed(self.runs)
        self.step = traced_before(self.runs[0], self.feed, len(self.runs))

    def row(self, k: int) -> State:
        """A copy of the state of trial ``k``, without the trial axis."""
        at = self.rows[k]
        return map_state(lambda t: t[at].clone(), self.state)


_RECENT: dict[str, StackedStep] = {}
"""Cache of the last few traced steps, so that the next stack of the same structure is not traced again."""
NUM_RECENT = 4


def traced_before(run: Run, feed: Feed, num_trials: int) -> StackedStep:
    """The stacked step of a run, from the cache if a stack of the same structure has been traced."""
    key = repr((feed.one_seed, feed.normalized, str(run.device), baked(run, feed)))
    step = _RECENT.pop(key, None)
    if step is None:
        normalize = _as_it_is if feed.normalized else run.data.info.normalize
        step = StackedStep(pure_step(run, normalize), num_trials, feed.one_seed, run.engine.finish)
    _RECENT[key] = step
    while len(_RECENT) > NUM_RECENT:
        _RECENT.pop(next(iter(_RECENT)))
    return step.resized(num_trials)


def baked(run: Run, feed: Feed) -> Any:
    """The values baked into a traced step: the configuration without its inputs, and the data's statistics."""
    info, fed = run.data.info, feed.hypers.paths
    names = {"optim.": "optim", **{f"technique.{name}.": name for name in run.techniques}}
    floats = {
        key: value
        for key, value in own_floats(run.cfg).items()
        if not key.startswith(("scheduler.", "init."))
        and not any(key.startswith(p) and (o, key[len(p) :].partition(".")[0]) in fed for p, o in names.items())
    }
    # optim.coordinates: the values that the step has are not those typed, and depend on several of them
    made = {name: value for name, value in floats_of(run.optim).items() if ("optim", name) not in fed}
    kind, tensors = saved(info.input)
    statistics = [t.flatten().tolist() for t in leaves(tensors)]
    data = (str(kind), info.target, info.num_outputs, statistics)
    given = sorted(structure(run.cfg).items(), key=str), sorted(floats.items()), sorted(made.items()), sorted(fed)
    return *given, sorted(run.frozen), data, code_of(run)


def code_of(run: Run) -> list[Any]:
    """The ids of the classes a step calls and of objects that techniques made: a notebook may redefine a class.

    A cached step keeps all of these objects alive, so that Python does not reuse their ids.
    """
    parts = [run.model.module, run.objective, run.optim, *run.techniques.values()]
    made = [
        (name, id(value))
        for technique in run.techniques.values()
        for name, value in vars(technique).items()
        if name not in {field.name for field in fields(technique)}
    ]
    return [*(id(type(part)) for part in parts), *made]


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass
class StackedResult:
    """The result of one trial of a stack.

    Attributes:
        state: its final state.
        losses: training loss at every step, (steps,).
        val: final metrics on the validation split.
    """

    state: State
    losses: Tensor
    val: dict[str, float]


def train_stacked(cfgs: Sequence[dict[str, Any]]) -> list[StackedResult]:
    """Train K configurations that differ only in floats and seeds, all at once.

    Args:
        cfgs: resolved configurations (``mltricks.config.compose.plain(mltricks.compose([...]))``).

    Returns:
        One result per configuration, in order; up to rounding, each equals that of the configuration alone.

    Raises:
        ValueError: the configurations differ in structure; the message names the first difference.
    """
    runs = build_all(cfgs)
    stacked = StackedRun(runs)
    losses = stacked.advance(runs[0].total_steps)["loss"]
    trials = []
    for k, run in enumerate(runs):
        state = to_predict(run, stacked.row(k))
        val = evaluate(run.predict, run.objective, state, run.data.val, run.cfg["eval_batch_size"], (), run.metrics)
        val |= scores_of_state(run, state, run.data.val)
        trials.append(StackedResult(state, losses[k], val))
    return trials


def build_all(cfgs: Sequence[dict[str, Any]]) -> list[Run]:
    """Build a run for every configuration; equal data settings are loaded once."""
    loaded: dict[str, Run] = {}
    runs = []
    for cfg in cfgs:
        same = loaded.get(key := repr((cfg["data"], cfg["device"])))
        runs.append(build(cfg, same.data if same else None))
        loaded.setdefault(key, runs[-1])
    return runs


def check_stackable(runs: Sequence[Run]) -> None:
    """Refuse runs that differ in more than floats and seeds, and parts that cannot be traced."""
    if not getattr(runs[0].optim, "traceable", True):
        raise ValueError(
            f"optim={option_of('optim', runs[0].optim)} cannot be stacked: it cannot be traced. Type optim=adamw."
        )
    why = not_stackable(runs[0].source.sampler, runs[0].cfg)
    untraced = [name for name, technique in runs[0].techniques.items() if not technique.traceable]
    if untraced:
        why = f"technique={untraced[0]} cannot be traced"
    if any(run.frozen != runs[0].frozen for run in runs):
        why = "they freeze different parameters"
    if len({run.shapes and run.shapes.table for run in runs}) > 1:
        why = "their samples change their shape at different times"
    if why is not None:
        raise ValueError(f"these runs cannot be stacked: {why}.")
    mine = structure(runs[0].cfg)
    for k, run in enumerate(runs[1:], 1):
        theirs = structure(run.cfg)
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key):
                raise ValueError(
                    f"these runs cannot be stacked: {key} is {mine.get(key)} in the first "
                    f"and {theirs.get(key)} in number {k}. "
                    "Only the seed and floats of optim, technique, scheduler and init may differ."
                )


def not_stackable(sampler: Any, cfg: dict[str, Any]) -> str | None:
    """The reason why runs with this sampler and these schedules cannot be stacked; ``None`` if they can."""
    if key := follows_score(cfg):
        return f"{key} follows the validation score, and the rounding of a stack could move its drops"
    if learns(sampler):
        name = option_of("sampler", sampler)
        return f"sampler={name} learns from losses, and the rounding of a stack would change the order of its samples"
    return None
