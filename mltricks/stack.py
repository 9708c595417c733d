"""K trials that differ only in floats and seeds, trained at once: one step over stacked states.

Every trial sees the batches, the hyperparameters and the random draws that it would have seen alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.build import STEP, Run, build
from mltricks.evaluate import evaluate
from mltricks.functional import foreach
from mltricks.hyper import HyperPlan
from mltricks.randomness import cut
from mltricks.state import State, fold, leaves, map_state, rebuild, reseed
from mltricks.step import Hyper, Metrics, Step, build_step
from mltricks.tracing import simplify, trace


class StackedStep:
    """A step over states, batches and hyperparameters that have a leading axis of K trials.

    Args:
        step: the pure step of one trial; it must not write into its arguments.
        num_trials: K.
    """

    def __init__(self, step: Step, num_trials: int):
        self.step, self.num_trials = step, num_trials
        self.graphs: dict[Any, tuple[Any, ...]] = {}

    @torch.no_grad()
    def __call__(self, state: State, batch: Batch, hyper: Hyper, seeds: Sequence[int]) -> tuple[State, Metrics]:
        """One update of every trial.

        Args:
            state, batch, hyper: as a step takes them, every leaf with a leading axis of length K.
            seeds: what to reseed with before the draws of each trial.

        Returns:
            The new stacked state and the metrics, each (K,).
        """
        inputs = [*leaves(state), *leaves(batch), *leaves(hyper)]
        key = tuple((x.shape, x.dtype) for x in batch.values())
        if key not in self.graphs:
            self.graphs[key] = self._trace(state, batch, hyper, inputs)
        draw, run, shape, num_draws = self.graphs[key]
        draws = self._draw(draw, inputs, seeds) if num_draws else []
        result = rebuild(shape, iter(run(*inputs, *draws)))
        return result["state"], result["metrics"]

    def _draw(self, draw: Any, inputs: list[Tensor], seeds: Sequence[int]) -> list[Tensor]:
        rows = []
        for k, seed in enumerate(seeds):
            reseed(seed)
            rows.append(draw(*[x[k] for x in inputs]))
        return [torch.stack(values) for values in zip(*rows, strict=True)]

    def _trace(self, state: State, batch: Batch, hyper: Hyper, inputs: list[Tensor]) -> tuple[Any, ...]:
        from torch.fx.experimental.proxy_tensor import make_fx

        one_state, one_batch, one_hyper = (map_state(lambda t: t[0], tree) for tree in (state, batch, hyper))
        with torch.random.fork_rng(), foreach.unrolled():
            graph, shape = trace(self.step, one_state, one_batch, one_hyper, functional=True)
            draw, rest, num_draws = cut(graph)
            draws = self._draw(draw.forward, inputs, range(self.num_trials)) if num_draws else []
            rows = torch.vmap(rest)
            stacked = make_fx(lambda *values: rows(*values))(*inputs, *draws)
        simplify(stacked)
        return draw.forward, stacked.forward, shape, num_draws


class StackedRun:
    """K runs that advance together.

    Args:
        runs: built from configurations that differ only in floats and seeds.

    Attributes:
        state: the stacked state; ``row`` takes one trial's out of it.
        metrics: of every step of the last ``advance``, by name, each (K, steps).

    Raises:
        ValueError: the configurations differ in structure; the message names the first difference.
    """

    def __init__(self, runs: Sequence[Run]):
        check_stackable(runs)
        first = runs[0]
        info = first.data.info
        step = build_step(first.model, first.objective, first.techniques, first.optim, info.normalize, info.num_outputs)
        self.runs = list(runs)
        self.step = StackedStep(step, len(runs))
        self.plans = [HyperPlan(r.plan.constants, r.plan.drives, r.total_steps, r.device) for r in runs]
        self.state = stack([r.state for r in runs])
        self.metrics: dict[str, Tensor] = {}

    @property
    def num_trials(self) -> int:
        """K, how many go on."""
        return len(self.runs)

    def advance(self, steps: int, start: int = 0) -> dict[str, Tensor]:
        """Make updates number ``start`` to ``start + steps``.

        Returns:
            The training metrics by name, each (K, steps), on the device: nothing here waits for it.
        """
        streams = [run.source.stream(start) for run in self.runs]
        made: list[Metrics] = []
        for i in range(start, start + steps):
            batch, hyper = stack([next(s) for s in streams]), stack([plan.at(i) for plan in self.plans])
            seeds = [fold(run.cfg["seed"], STEP, i) for run in self.runs]
            self.state, metrics = self.step(self.state, batch, hyper, seeds)
            made.append(metrics)
        self.metrics = {name: torch.stack([m[name] for m in made], 1) for name in made[0]}
        return self.metrics

    def keep(self, rows: Sequence[int]) -> None:
        """Let only some trials go on; what was row ``rows[k]`` is row ``k`` from then on.

        Args:
            rows: positions of those that stay, rising, at least one.
        """
        assert len(rows) > 0, "somebody goes on"
        index = torch.tensor(rows, device=self.runs[0].device)
        self.state = map_state(lambda t: t.index_select(0, index), self.state)
        self.runs, self.plans = [self.runs[k] for k in rows], [self.plans[k] for k in rows]
        self.step = StackedStep(self.step.step, len(rows))

    def row(self, k: int) -> State:
        """The state of trial ``k``, as it would have been alone."""
        return map_state(lambda t: t[k], self.state)


@dataclass
class Trial:
    """The result of one trial of a stack.

    Attributes:
        state: its final state.
        losses: training loss at every step, (steps,).
        val: metrics on the validation split at the end.
    """

    state: State
    losses: Tensor
    val: dict[str, float]


def train_stacked(cfgs: Sequence[dict[str, Any]]) -> list[Trial]:
    """Train K configurations that differ only in floats and seeds, all at once.

    Args:
        cfgs: resolved configurations (``mltricks.config.plain(mltricks.compose([...]))``).

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
        trials.append(Trial(state, losses[k], val))
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


def stack(trees: Sequence[Any]) -> Any:
    """Nested dicts of the same shape to one whose leaves have a leading axis."""
    rows = [list(leaves(tree)) for tree in trees]
    return rebuild(trees[0], iter([torch.stack(column) for column in zip(*rows, strict=True)]))


def check_stackable(runs: Sequence[Run]) -> None:
    """Refuse configurations that differ in more than floats and seeds, and optimisers that cannot be traced."""
    if not getattr(runs[0].optim, "traceable", True):
        raise ValueError(
            f"optim={type(runs[0].optim).__name__.lower()} cannot be stacked: it cannot be traced. Type optim=adamw."
        )
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


PER_TRIAL = ("optim.", "technique.", "scheduler.", "init.")
"""Where floats belong to a trial: what the step is fed, and what makes its first weights. The rest is built once."""


def structure(cfg: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Everything in a configuration that the trials of a stack must share, by dotted key.

    >>> structure({"seed": 1, "optim": {"lr": 0.1, "nesterov": True}})
    {'optim.nesterov': True}
    """
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        if isinstance(value, dict):
            flat |= structure(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" != "seed" and not (isinstance(value, float) and prefix.startswith(PER_TRIAL)):
            flat[f"{prefix}{key}"] = value
    return flat
