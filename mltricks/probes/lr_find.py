"""The learning-rate range test: the rate rises at every update, and the loss shows where it helps and diverges.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2015, arXiv:1506.01186, section 3.3; Smith, "A
Disciplined Approach to Neural Network Hyper-Parameters", 2018, arXiv:1803.09820, section 4.
Deviation: the rate rises by the same factor at every update instead of linearly; two rates are read off the curve, the
rate of the steepest descent, and a tenth of the rate of the lowest loss.
Cost: ``num_steps`` ordinary updates, fewer if the loss diverges earlier.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.values import NonNegative, Positive, Range, check_values
from mltricks.figures.probes import loss_by_rate
from mltricks.hyper import Drive, Hypers
from mltricks.probes.bare import constant_rate
from mltricks.probes.keep import keep
from mltricks.probes.rate import learning_rates, plain_rate, together
from mltricks.state import reseed_step
from mltricks.train import advance

HINTS: dict[str, Any] = {
    "num_steps": Annotated[int, Range(10)],
    "low": Positive,
    "high": Positive,
    "smoothing": NonNegative,
    "breakout": Annotated[float, Range(1.0, above=True)],
}
MOVED = 0.02
"""The loss has moved if it falls by more than this fraction of its first value, and by more than noise."""
CHANCE = 1.5
"""Noise: over a hundred updates, the smoothed curve may fall by chance by this many ``Reading.noise``."""
ONLINE = 0.9
"""Decay of the running mean of the loss that detects the breakout, per update."""


@dataclass(frozen=True)
class Reading:
    """The rates and losses read off a curve of losses over rising rates.

    Attributes:
        first: initial loss: the mean of the first tenth.
        lowest: the lowest smoothed loss.
        noise: standard deviation of a loss from update to update, in the first quarter.
        moved: whether the loss fell by more than noise.
        steepest: rate at which the smoothed loss falls fastest with the logarithm of the rate, from ``starts`` on.
        tenth: a tenth of the rate of the lowest smoothed loss.
        suggestion: the smaller of ``steepest`` and ``tenth``; ``None`` if the loss did not move.
        starts: rate from which on the loss has fallen by at least a tenth of its total fall.
        breaks: rate of the lowest loss: beyond it the loss rises.
    """

    first: float
    lowest: float
    noise: float
    moved: bool
    steepest: float
    tenth: float
    suggestion: float | None
    starts: float
    breaks: float


def lr_find(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float | None:
    """Run the range test; return the suggested learning rate.

    Raises:
        ValueError: the configuration is refused, or a learning rate has a schedule of its own.
    """
    cfg, start = plain(cfg), time.perf_counter()
    settings = cfg["job"]
    check_values(settings, HINTS)
    if settings["low"] >= settings["high"]:
        raise ValueError(f"low={settings['low']} must lie below high={settings['high']}. Type low=1e-6.")
    run = rising_run(cfg, settings)
    of_steps, losses = record(run, settings["num_steps"], settings["breakout"])
    unit = plain_rate(cfg)
    rates = [rate / unit for rate in of_steps]
    found = read(rates, losses, settings["smoothing"])
    content = {
        "verdict": "pass" if found.moved else "fail",
        "reason": reason(found),
        "advice": advice(found, settings, len(losses)),
        **asdict(found),
        "rates": rates,
        "losses": losses,
        "smooth": smooth(losses, settings["smoothing"] * len(losses)),
        "overrides_suggested": [f"optim.{name}={rate:.3g}" for name, rate in suggested(cfg, found).items()],
        "steps": len(losses),
        "seconds": round(time.perf_counter() - start, 3),
    }
    keep("lr_find", run, content, loss_by_rate, folder, overrides, mode == "MULTIRUN")
    return found.suggestion


def rising_run(cfg: dict[str, Any], settings: dict[str, Any]) -> Run:
    """A run whose ``optim.lr`` rises from ``low`` to ``high``; other learning rates keep their ratio to it."""
    cfg = constant_rate(cfg)
    typed = learning_rates(cfg)
    run = build(cfg)
    names, unit = list(typed), plain_rate(cfg)

    def rise(share: float) -> Drive:
        ratio, steps, low = settings["high"] / settings["low"], settings["num_steps"], settings["low"] * unit
        return lambda progress: float(share * low * ratio ** min(progress * steps / (steps - 1), 1.0))

    drives = {("optim", name): rise(typed[name] / typed[names[0]]) for name in names}
    run.hypers = Hypers(run.hypers.constants, run.hypers.drives | drives, settings["num_steps"], run.hypers.device)
    return run


def record(run: Run, num_steps: int, breakout: float) -> tuple[list[float], list[float]]:
    """The rate and the training loss of every update, until the loss diverges or is not finite."""
    rates: list[float] = []
    losses: list[float] = []
    running, weight, best = 0.0, 0.0, math.inf
    for step, batch in zip(range(num_steps), run.batches(), strict=False):
        reseed_step(run.cfg["seed"], step)
        loss = float(advance(run, batch, step)["loss"])
        if not math.isfinite(loss):
            break
        rates.append(run.hypers.values(step)["optim", "lr"])
        losses.append(loss)
        running, weight = ONLINE * running + (1 - ONLINE) * loss, ONLINE * weight + (1 - ONLINE)
        best = min(best, running / weight)
        if running / weight > breakout * best and step >= 10:
            break
    return rates, losses


def read(rates: Sequence[float], losses: Sequence[float], smoothing: float) -> Reading:
    """Read the rates off a curve.

    Args:
        rates: rising by the same factor from one to the next.
        losses: the training losses at these rates.
        smoothing: standard deviation of the Gaussian that smooths the losses, as a fraction of their number.

    Raises:
        ValueError: fewer than five losses: the first updates made the loss infinite.
    """
    if len(losses) < 5:
        raise ValueError(
            f"the loss was NaN or infinite after {len(losses)} updates, too few to find a rate. "
            "Type job=check_init, or a smaller low."
        )
    curve = smooth(losses, smoothing * len(losses))
    head = max(3, len(losses) // 10)
    first = sum(losses[:head]) / head
    noise = noise_of(losses[: max(4, len(losses) // 4)])
    lowest_at = min(range(len(curve)), key=curve.__getitem__)
    moved = first - curve[lowest_at] > max(MOVED * abs(first), CHANCE * noise)
    mark = first - 0.1 * (first - curve[lowest_at])
    onset = max((i for i in range(lowest_at) if curve[i] > mark), default=0)  # the last update above the mark
    falls = {i: curve[i] - curve[i - 1] for i in range(onset + 1, lowest_at + 1)}
    steepest = rates[min(falls, key=lambda i: falls[i])] if falls else rates[0]
    starts = rates[min(onset + 1, lowest_at)]
    tenth = rates[lowest_at] / 10
    return Reading(
        first,
        curve[lowest_at],
        noise,
        moved,
        steepest,
        tenth,
        min(steepest, tenth) if moved else None,
        starts,
        rates[lowest_at],
    )


def noise_of(losses: Sequence[float]) -> float:
    """The standard deviation of a loss about a slow curve, from the differences of neighbours.

    >>> noise_of([0.0, 2.0, 0.0, 2.0]) == math.sqrt(2.0)
    True
    """
    jumps = [b - a for a, b in itertools.pairwise(losses)]
    return math.sqrt(sum(jump**2 for jump in jumps) / (2 * len(jumps)))


def smooth(values: Sequence[float], width: float) -> list[float]:
    """The mean around every value with Gaussian weights; unlike a running mean it has no lag.

    >>> smooth([1.0, 1.0, 1.0], 2.0)
    [1.0, 1.0, 1.0]
    """
    if width <= 0:
        return list(values)
    reach = math.ceil(3 * width)
    result = []
    for i in range(len(values)):
        near = range(max(0, i - reach), min(len(values), i + reach + 1))
        weights = [math.exp(-0.5 * ((j - i) / width) ** 2) for j in near]
        result.append(sum(w * values[j] for w, j in zip(weights, near, strict=True)) / sum(weights))
    return result


def suggested(cfg: dict[str, Any], found: Reading) -> dict[str, float]:
    """The learning rates that the test suggests, by name."""
    return {} if found.suggestion is None else together(cfg, found.suggestion)


def reason(found: Reading) -> str:
    """The result in a sentence."""
    if found.suggestion is None:
        return f"no learning rate moved the loss: {found.first:.4g} at first, {found.lowest:.4g} at best."
    low, high = f"{found.starts:.2g}", f"{found.breaks:.2g}"
    where = f"between {low} and {high}" if low != high else f"at {low}"
    return (
        f"the loss falls from {found.first:.4g} to {found.lowest:.4g} {where}"
        f"; steepest at {found.steepest:.2g}, a tenth of the lowest's rate is {found.tenth:.2g}: "
        f"try {found.suggestion:.2g}."
    )


def advice(found: Reading, settings: dict[str, Any], num: int) -> list[str]:
    """The overrides to type next."""
    if found.suggestion is None:
        return [
            f"Type high={settings['high'] * 100:g} in case the rates were too low, or "
            f"num_steps={2 * settings['num_steps']} in case of noise; else try job=check_init and job=overfit."
        ]
    if num == settings["num_steps"] and found.breaks >= 0.9 * settings["high"]:
        return [f"The loss never diverged, so higher rates may work too. Type high={settings['high'] * 10:g}."]
    return []
