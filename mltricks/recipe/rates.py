"""Step 3: the range of learning rates that lower the loss within about a hundred updates."""

from __future__ import annotations

import math
from typing import Any

from mltricks.probes.rate import learning_rates, together
from mltricks.recipe.charts import chart, series
from mltricks.recipe.gate import Gate
from mltricks.recipe.tuner import ENDED, Changes, Tuner
from mltricks.sweep.outcome import Outcome
from mltricks.sweep.ranges import Span

NUM_UPDATES, NUM_RATES = 100, 5
FEWEST = 10
MOVED = 0.05
"""A short run must lower the initial loss by this fraction of it."""


def find_rates(tuner: Tuner, initial_loss: float) -> Span:
    """Run the range test, and short runs at rates around its suggestion; return the range to search.

    Args:
        tuner: the state of the recipe.
        initial_loss: validation loss before training.

    Raises:
        GateFailed: no rate lowered the loss.
    """
    before, share = tuner.money.spent, tuner.money.share("rates")
    updates = min(NUM_UPDATES, max(FEWEST, share // (NUM_RATES + 1)))
    outcome, found = tuner.probe("lr_find", {"job.num_steps": str(updates)})
    tuner.money.spend(found["steps"])
    rates = spaced(found, learning_rates(tuner.cfg)["lr"], min(NUM_RATES, max(0, share // updates - 1)))
    runs = tuner.train([rate_changes(tuner, rate) for rate in rates], updates)
    losses = [last_loss(run) for run in runs]
    moving = [r for r, loss in zip(rates, losses, strict=True) if loss <= (1 - MOVED) * initial_loss]
    scope = scope_of(found, rates, moving)
    gate = gate_of(found, rates, losses, moving, scope, updates)
    gate.evidence["initial_loss"] = initial_loss
    tuner.close(gate, [outcome, *runs], before)
    return scope


def spaced(found: dict[str, Any], configured: float, num: int) -> list[float]:
    """Rates at equal ratios from a tenth of the suggestion to where the loss rises, else around the typed rate.

    >>> spaced({"suggestion": 0.01, "breaks": 0.1}, 1.0, 3)
    [0.001, 0.01, 0.1]
    """
    rate = found["suggestion"]
    low, high = (rate / 10, max(found["breaks"], rate)) if rate is not None else (configured / 100, configured * 10)
    return [float(f"{low * (high / low) ** (i / max(1, num - 1)):.3g}") for i in range(num)]


def rate_changes(tuner: Tuner, rate: float) -> Changes:
    """The overrides for a learning rate and for the other rates that keep their ratio to it."""
    return {f"optim.{name}": f"{value:.6g}" for name, value in together(tuner.cfg, rate).items()}


def last_loss(run: Outcome) -> float:
    """The validation loss after a short run; infinite if it diverged.

    Training losses of so few updates are too noisy to compare.
    """
    loss = run.summary.val.get("loss")
    return loss if run.summary.status in ENDED and loss is not None else math.inf


def scope_of(found: dict[str, Any], rates: list[float], moving: list[float]) -> Span:
    """The range of the coarse search: from the lowest to the highest rate that lowers the loss, and a little beyond."""
    if moving:
        ratio = (rates[-1] / rates[0]) ** (
            0.5 / max(1, len(rates) - 1)
        )  # half way to the next rates, which do not lower it
        low, high = min(moving) / max(ratio, 1.5), max(moving) * (1.0 if max(moving) == rates[-1] else min(ratio, 1.5))
    elif found["suggestion"] is not None:
        low, high = found["suggestion"] / 10, found["breaks"]
    else:
        low, high = rates[0] if rates else 1e-5, rates[-1] if rates else 1.0
    high = max(high, 3 * low)
    return Span(float(f"{low:.3g}"), float(f"{high:.3g}"), log=True)


def gate_of(
    found: dict[str, Any], rates: list[float], losses: list[float], moving: list[float], scope: Span, updates: int
) -> Gate:
    """The gate: it passes if any rate lowers the loss."""
    passed = bool(moving) or (not rates and found["verdict"] == "pass")
    tested = f"range test: {found['reason']}"
    runs = f"{len(rates)} short run{'s' if len(rates) > 1 else ''} of {updates} updates"
    reason = f"{len(moving)} of {runs} lower the loss by {MOVED:.0%}" if rates else tested.rstrip(".")
    reason += f"; the coarse search covers {scope.low:g} to {scope.high:g}." if passed else "."
    evidence = {
        "first": found["first"],
        "suggestion": found["suggestion"],
        "steepest": found["steepest"],
        "breaks": found["breaks"],
        "rates": rates,
        "losses": losses,
        "low": scope.low,
        "high": scope.high,
    }
    advice = "" if passed else " ".join(found["advice"]) or "Check the data; try another init or another optim."
    ranged = series("range test, training", found["rates"], found["smooth"])
    short = series("short runs, validation", rates, losses, points=True)
    picture = chart("learning rate", "loss", ranged, short, log_x=True)
    verdict, more = "pass" if passed else "fail", f"R{tested[1:]}" if rates else ""
    return Gate(3, "learning rates", verdict, reason, evidence, advice, more, chart=picture)
