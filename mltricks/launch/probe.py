"""The probe: a short measurement that decides whether to train trials as a stack, and of what size.

It times a few steps of one trial, and a few of a stack of as many trials as fit into memory. The stack must win by
more than the time to trace it. The probe trains copies, whose states are thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mltricks.build import Run, build
from mltricks.config.create import create, locate
from mltricks.config.options import option_of
from mltricks.data.splits import MemorySplit
from mltricks.stack.run import StackedRun, not_stackable
from mltricks.stack.structure import structure
from mltricks.state import reseed_step

SLOW_S = {"cpu": 0.02}
"""A longer step of a single trial, s, keeps its device busy, so a stack cannot help. Other devices have no limit."""
SMALL_S = 0.001
"""A step shorter than this on one thread, s, does not get faster with more threads."""
SHORT_S = 0.5
"""Trials that take less time than this in total, s, finish before a stack would be traced."""
MARGIN = 1.03
"""Minimum speed-up of a stack."""
LARGEST = {"cpu": 64, "cuda": 256}
"""Maximum size of a stack: a larger one is not faster, and all its results come only at its end."""
ALMOST = 1.1
"""Prefer one thread even if it is slower by this factor: on busy cores, several threads wait for each other."""
MEMORY_SHARE = 0.5
"""Share of the free memory that a stack may use."""
GOOD = 0.5
"""A stack that takes less than this share of the time alone is good enough: skip the smaller size."""


@dataclass(frozen=True)
class Probe:
    """The result of a probe.

    Attributes:
        fuse: whether to train the trials in stacks.
        stack_size: maximum number of trials in a stack; 1 if they are not stacked.
        reason: the reason, in words.
        alone_s: time of a step of one trial alone, s; 0 if not measured.
        stacked_s: time of a step of one trial in a stack, s; 0 if not measured.
        trace_s: time to trace the stack, s.
        steps: number of steps of each trial; 0 if nothing was measured.
        threads: torch threads with which the stack was fastest; 0: all.
    """

    fuse: bool
    stack_size: int
    reason: str
    alone_s: float = 0.0
    stacked_s: float = 0.0
    trace_s: float = 0.0
    steps: int = 0
    threads: int = 0


def fusable(cfgs: Sequence[dict[str, Any]]) -> str | None:
    """The reason why trials cannot be trained as a stack; ``None`` if they can.

    Args:
        cfgs: their resolved configurations.
    """
    if len(cfgs) < 2:
        return "there is one trial"
    first = cfgs[0]
    mine = structure(first)
    for cfg in cfgs[1:]:
        theirs = structure(cfg)
        differing = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        if differing:
            return f"{differing[0]} differs, and only the seed and floats may"
    if first["job"]["_target_"] != "mltricks.jobs.train":
        return "only job=train can be stacked"
    optim = locate(first["optim"]["_target_"], "optim", first["allow_modules"])
    if not getattr(optim, "traceable", True):
        return f"optim={option_of('optim', optim)} cannot be traced"
    for name, node in first["technique"].items():
        if not getattr(locate(node["_target_"], f"technique.{name}", first["allow_modules"]), "traceable", True):
            return f"technique={name} cannot be traced"
    return not_stackable(create(first["sampler"], "sampler", first["allow_modules"]), first)


def probe(cfgs: Sequence[dict[str, Any]]) -> Probe:
    """Decide whether to stack trials that differ only in floats and seeds.

    Args:
        cfgs: their resolved configurations.

    Raises:
        ValueError: the first configuration is invalid.
    """
    why = fusable(cfgs)
    if why is not None:
        return Probe(False, 1, why)
    first = build(as_measured(cfgs[0]))
    return replace(compare(first, cfgs), steps=first.total_steps)


def expected_s(cfg: dict[str, Any]) -> float:
    """The expected time of all steps of a trial alone, s.

    Args:
        cfg: its resolved configuration.

    Raises:
        ValueError: the configuration is invalid.
    """
    run = build(as_measured(cfg))
    return seconds_alone(run) * run.total_steps


def compare(first: Run, cfgs: Sequence[dict[str, Any]]) -> Probe:
    """Decide for trials that could be stacked, given the run of the first."""
    if not isinstance(first.data.train, MemorySplit) and len({cfg["seed"] for cfg in cfgs}) > 1:
        return Probe(False, 1, "the data are read from files, in another order for every seed")
    alone = seconds_alone(first)
    if alone > SLOW_S.get(first.device.type, math.inf):
        return Probe(False, 1, f"a step takes {alone * 1e3:.0f} ms alone and keeps the device busy", alone)
    total = alone * first.total_steps * len(cfgs)
    if total < SHORT_S:
        return Probe(False, 1, f"they take only {total:.1f} s one after another", alone)
    try:
        other = build(as_measured(blend(cfgs)), first.data)
        with num_threads(1 if alone < SMALL_S and first.device.type == "cpu" else 0):
            return decide([first, other], len(cfgs), alone)
    except (RuntimeError, ValueError) as error:  # only trying shows which operations vmap refuses
        return Probe(False, 1, f"the measurement failed: {str(error).splitlines()[0]}", alone)


def as_measured(cfg: dict[str, Any]) -> dict[str, Any]:
    """The configuration for measuring: traced instead of compiled, as compiling could take longer than training."""
    if not cfg["engine"]["_target_"].endswith(".Compile"):
        return cfg
    return {**cfg, "engine": {"_target_": "mltricks.engine.Traced"}}


def blend(cfgs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mix configurations, so that the result differs from the first in every value in which any other does."""
    first, *others = cfgs
    mixed = dict(first)
    for key, value in first.items():
        different = next((cfg[key] for cfg in others if cfg[key] != value), value)
        mixed[key] = blend([cfg[key] for cfg in cfgs]) if isinstance(value, dict) else different
    return mixed


def seconds_alone(run: Run) -> float:
    """Time one step as the training loop makes it, s. This advances the run's state.

    On the CPU, try one thread first: if another process uses one of the cores, threads wait for each other, and a step
    of 0.1 ms takes 30 ms.
    """
    stream = run.batches()

    def step(number: int) -> None:
        reseed_step(run.cfg["seed"], number)
        run.state, _ = run.step(run.state, next(stream), run.hypers.at(number))

    if run.device.type != "cpu" or torch.get_num_threads() == 1:
        return fastest(step, run.device)
    with num_threads(1):
        single = fastest(step, run.device)
    return single if single < SMALL_S else min(single, fastest(step, run.device))


def fastest(step: Callable[[int], None], device: torch.device, enough_s: float = 0.05) -> float:
    """The shortest of a few calls, s: 5 to 11 of them, or fewer if they are slow. The first call is a warm-up."""
    times: list[float] = []
    while len(times) < 11 and (len(times) < 5 or sum(times[1:]) < enough_s) and sum(times) < 10 * enough_s:
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        step(len(times))
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times[1:] or times)


def decide(pair: Sequence[Run], num_trials: int, alone: float) -> Probe:
    """Measure stacks of one or two sizes, and compare the best with the time alone."""
    device, steps = pair[0].device, pair[0].total_steps
    begun = time.perf_counter()
    small = StackedRun(pair)
    small.advance(1)
    room = int(MEMORY_SHARE * free_bytes(device) / (small.step.peak_bytes / len(pair)))
    most = min(num_trials, LARGEST.get(device.type, 64), room)
    if most < 2:
        return Probe(False, 1, "memory is too small for two at once", alone)
    first = evenly(num_trials, most)
    found = measured(pair, first, alone)
    trace = time.perf_counter() - begun
    if found.stacked_s > GOOD * alone and first >= 8:
        found = min(found, measured(pair, evenly(num_trials, first // 4), alone), key=lambda p: p.stacked_s)
    gain = (alone - MARGIN * found.stacked_s) * steps * num_trials - trace
    ratio = alone / found.stacked_s
    words = f"a step takes {alone * 1e6:.0f} us alone and {found.stacked_s * 1e6:.0f} us in a stack (x{ratio:.1f})"
    if gain > 0:
        return replace(found, reason=words, trace_s=trace)
    why = words if ratio < MARGIN else f"{words}, but tracing takes longer than {steps} steps save"
    return Probe(False, 1, why, alone, found.stacked_s, trace)


def evenly(num_trials: int, most: int) -> int:
    """The size of the stacks if the trials are split as evenly as possible.

    >>> evenly(100, 64)
    50
    """
    return math.ceil(num_trials / math.ceil(num_trials / most))


def measured(pair: Sequence[Run], size: int, alone: float) -> Probe:
    """Time a step in a stack of this size; on the CPU also with one thread, the best choice for small operations."""
    stacked = StackedRun([pair[k % len(pair)] for k in range(size)])
    stacked.advance(1)  # traces the stack, so that the timing excludes it

    def step(number: int) -> None:
        stacked.advance(1, number)

    seconds = fastest(step, pair[0].device) / size
    if pair[0].device.type != "cpu" or torch.get_num_threads() == 1:
        return Probe(True, size, "", alone, seconds, threads=torch.get_num_threads())
    with num_threads(1):
        single = fastest(step, pair[0].device) / size
    if single <= ALMOST * seconds:
        return Probe(True, size, "", alone, single, threads=1)
    return Probe(True, size, "", alone, seconds)


@contextmanager
def num_threads(num: int) -> Iterator[None]:
    """A context in which torch uses ``num`` threads; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(num or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, in bytes."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + held)
    listed = Path("/proc/meminfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else 2**32
