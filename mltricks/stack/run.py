"""K trials that differ only in floats and seeds, trained at once: one step over stacked states.

Every trial sees the batches, the hyperparameters and the random draws that it would have seen alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mltricks.build import Run, build, pure_step
from mltricks.config.create import locate
from mltricks.config.values import float_fields
from mltricks.data.order import learns
from mltricks.evaluate import evaluate
from mltricks.inputs.base import saved
from mltricks.stack.feed import Feed, stack
from mltricks.stack.step import StackedStep
from mltricks.state import State, leaves, map_state
from mltricks.step import Metrics

__all__ = ["StackedResult", "StackedRun", "StackedStep", "build_all", "stack", "structure", "train_stacked"]

IDLE = 0.25
"""Share of a stack that may be idle before it is made smaller."""


class StackedRun:
    """K runs that advance together.

    Args:
        runs: built from configurations that differ only in floats and seeds; the data of the first are used for all.

    Attributes:
        state: the stacked state; ``row`` takes one trial's out of it.

    Raises:
        ValueError: the configurations differ in structure; the message names the first difference.
    """

    def __init__(self, runs: Sequence[Run]):
        check_stackable(runs)
        self.runs = list(runs)
        self.rows = list(range(len(runs)))
        """Where in the stack those are that go on; the others are carried along until it pays to leave them out."""
        self.stacked = self.runs
        self.state = stack([r.state for r in runs])
        self.feed = Feed(runs)
        self.step = traced_before(runs[0], self.feed, len(runs))

    @property
    def num_trials(self) -> int:
        """K, how many go on."""
        return len(self.runs)

    def advance(self, steps: int, start: int = 0) -> dict[str, Tensor]:
        """Make updates number ``start`` to ``start + steps``.

        Returns:
            The training metrics by name, each (K, steps), on the device: nothing here waits for it.
        """
        made: list[Metrics] = []
        for i in range(start, start + steps):
            self.state, metrics = self.step(self.state, *self.feed.at(i))
            made.append(metrics)
        columns = {name: torch.stack([m[name] for m in made], 1) for name in made[0]}
        return {name: self._alive(column) for name, column in columns.items()}

    def _alive(self, t: Tensor) -> Tensor:
        """The rows of those that go on."""
        if len(self.rows) == len(self.stacked):
            return t
        return t.index_select(0, torch.tensor(self.rows, device=t.device))

    def keep(self, rows: Sequence[int]) -> None:
        """Let only some trials go on; what was row ``rows[k]`` is row ``k`` from then on.

        The others are computed along until a quarter of the stack is idle, because a stack of another size has to be
        traced anew.

        Args:
            rows: positions of those that stay, rising, at least one.
        """
        assert len(rows) > 0, "somebody goes on"
        self.runs, self.rows = [self.runs[k] for k in rows], [self.rows[k] for k in rows]
        if len(self.rows) <= (1 - IDLE) * len(self.stacked):
            self.compact()

    def compact(self) -> None:
        """Leave those out that do not go on."""
        self.state = map_state(self._alive, self.state)
        self.stacked, self.rows = self.runs, list(range(len(self.runs)))
        self.feed = Feed(self.runs)
        self.step = traced_before(self.runs[0], self.feed, len(self.runs))

    def row(self, k: int) -> State:
        """A copy of the state of trial ``k``, as it would have been alone."""
        at = self.rows[k]
        return map_state(lambda t: t[at].clone(), self.state)


_RECENT: dict[str, StackedStep] = {}
"""The last few kinds of steps of this process, so that the next stack of the same kind need not be traced again."""
NUM_RECENT = 4


def traced_before(run: Run, feed: Feed, num_trials: int) -> StackedStep:
    """The stacked step of a run; a stack of the same structure and size has traced it already."""
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
    """Whatever a traced step has in itself: the configuration without what it is fed, and the data's statistics."""
    info, fed = run.data.info, feed.hypers.paths
    names = {"optim.": "optim", **{f"technique.{name}.": name for name in run.techniques}}
    floats = {
        key: value
        for key, value in own_floats(run.cfg).items()
        if not key.startswith(("scheduler.", "init."))
        and not any(key.startswith(p) and (o, key[len(p) :].partition(".")[0]) in fed for p, o in names.items())
    }
    kind, tensors = saved(info.input)
    statistics = [t.flatten().tolist() for t in leaves(tensors)]
    data = (str(kind), info.target, info.num_outputs, statistics)
    given = sorted(structure(run.cfg).items(), key=str), sorted(floats.items()), sorted(fed)
    return *given, sorted(run.frozen), data, code_of(run)


def code_of(run: Run) -> list[Any]:
    """Which classes a step calls, and what techniques made for themselves: a notebook may have defined them anew.

    A step that is kept keeps all of these too, so that no number of an object is given out again.
    """
    parts = [run.model.module, run.objective, run.optim, *run.techniques.values()]
    made = [
        (name, id(value))
        for technique in run.techniques.values()
        for name, value in vars(technique).items()
        if name not in {field.name for field in fields(technique)}
    ]
    return [*(id(type(part)) for part in parts), *made]


def flattened(cfg: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration by dotted key.

    >>> flattened({"optim": {"lr": 0.1}})
    {'optim.lr': 0.1}
    """
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass
class StackedResult:
    """The result of one trial of a stack.

    Attributes:
        state: its final state.
        losses: training loss at every step, (steps,).
        val: metrics on the validation split at the end.
    """

    state: State
    losses: Tensor
    val: dict[str, float]


def train_stacked(cfgs: Sequence[dict[str, Any]]) -> list[StackedResult]:
    """Train K configurations that differ only in floats and seeds, all at once.

    Args:
        cfgs: resolved configurations (``mltricks.config.compose.plain(mltricks.compose([...]))``).

    Returns:
        One result a configuration, in order: what each would have been alone, to float rounding.

    Raises:
        ValueError: the configurations differ in structure; the message names the first difference.
    """
    runs = build_all(cfgs)
    stacked = StackedRun(runs)
    losses = stacked.advance(runs[0].total_steps)["loss"]
    trials = []
    for k, run in enumerate(runs):
        state = stacked.row(k)
        val = evaluate(run.predict, run.objective, state, run.data.val, run.cfg["eval_batch_size"])
        trials.append(StackedResult(state, losses[k], val))
    return trials


def build_all(cfgs: Sequence[dict[str, Any]]) -> list[Run]:
    """A run for every configuration; data that several describe alike are loaded once."""
    loaded: dict[str, Run] = {}
    runs = []
    for cfg in cfgs:
        same = loaded.get(key := repr((cfg["data"], cfg["device"])))
        runs.append(build(cfg, same.data if same else None))
        loaded.setdefault(key, runs[-1])
    return runs


def check_stackable(runs: Sequence[Run]) -> None:
    """Refuse configurations that differ in more than floats and seeds, and optimisers that cannot be traced."""
    if not getattr(runs[0].optim, "traceable", True):
        raise ValueError(
            f"optim={type(runs[0].optim).__name__.lower()} cannot be stacked: it cannot be traced. Type optim=adamw."
        )
    why = not_stackable(runs[0].source.sampler)
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


def not_stackable(sampler: Any) -> str | None:
    """Why runs with this sampler, or class of samplers, are not trained as a stack; ``None`` where they may be."""
    if learns(sampler):
        name = sampler.__name__ if isinstance(sampler, type) else type(sampler).__name__
        return f"sampler={name} learns from losses, and the rounding of a stack would change the order of its samples"
    return None


def structure(cfg: dict[str, Any]) -> dict[str, Any]:
    """Everything in a configuration that the trials of a stack must share, by dotted key.

    >>> structure({"seed": 1, "epochs": 2, "scheduler": {"final_factor": 0.1}})
    {'epochs': 2}
    """
    free = own_floats(cfg)
    return {key: value for key, value in flattened(cfg).items() if key != "seed" and key not in free}


def own_floats(cfg: dict[str, Any]) -> dict[str, float]:
    """The floats that may be each trial's own, by dotted key; an integer is one where the setting is a float.

    Those are what makes the first weights and the schedules, and what the step is fed: the fields of the optimiser and
    of techniques that are typed ``float``. Everything else is built once.

    >>> own_floats({"scheduler": {"final_factor": 0.1}, "model": {"scale": 0.5}})
    {'scheduler.final_factor': 0.1}
    """
    allow = tuple(cfg.get("allow_modules", ()))
    owners: dict[str, Any] = {name: cfg.get(name) for name in ("scheduler", "init", "optim")}
    owners |= {f"technique.{name}": node for name, node in cfg.get("technique", {}).items()}
    found: dict[str, float] = {}
    for owner, node in owners.items():
        for name, value in flattened(node).items() if isinstance(node, dict) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                field, _, point = name.partition(".")
                fed = field in _names_of_floats(str(node.get("_target_", "")), owner, allow)
                free = fed and (point in ("", "start", "end") or isinstance(value, float))
                if free or (owner in ("scheduler", "init") and isinstance(value, float)):
                    found[f"{owner}.{name}"] = float(value)
    return found


@functools.cache
def _names_of_floats(target: str, key: str, allow: tuple[str, ...]) -> frozenset[str]:
    """The settings of the class at a key that are floats; none where it cannot be had, which building a run says."""
    try:
        return frozenset(float_fields(locate(target, key, allow)))
    except ValueError:
        return frozenset()
