"""Overfit a small sample: a model that cannot fit thirty samples cannot fit a data set.

Source: the second step of tuning with few GPUs in Stanford's CS231n: fit 5 to 10 batches perfectly, without weight
decay.
Deviation: one fixed batch of a few dozen samples at every update; if the configured learning rate does not fit
the batch, a tenth and ten times that rate are tried.
Cost: at most ``num_steps`` updates on ``num_samples`` samples for each learning rate.
"""

from __future__ import annotations

import math
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.config.compose import plain
from mltricks.config.values import Count, Fraction, check_value, check_values
from mltricks.figures.probes import memorised
from mltricks.probes.bare import bare_run
from mltricks.probes.check_init import ignorance
from mltricks.probes.keep import keep
from mltricks.probes.rate import at_rate, learning_rates
from mltricks.state import map_state, merged, reseed_step
from mltricks.train import advance

HINTS = {"num_samples": Count, "num_steps": Count, "share": Fraction}


def overfit(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float:
    """Overfit a small sample; return the last loss divided by that of a constant prediction.

    Raises:
        ValueError: the configuration is refused.
    """
    cfg, start = plain(cfg), time.perf_counter()
    settings = cfg["job"]
    check_values(settings, HINTS)
    check_value("factors", settings["factors"], list[float])
    tries: list[dict[str, Any]] = []
    for factor in settings["factors"]:
        run = bare_run(at_rate(cfg, {name: rate * factor for name, rate in learning_rates(cfg).items()}))
        tries.append({"factor": factor, **fit(run, settings)})
        if tries[-1]["fits"]:
            break
    best = min(tries, key=lambda t: t["loss"] if math.isfinite(t["loss"]) else math.inf)
    verdict, reason = verdict_of(best, tries)
    share = best["loss"] / max(best["ignorant_loss"], 1e-12)
    content = {
        "verdict": verdict,
        "reason": reason,
        "advice": advice(best, tries, settings),
        **{key: value for key, value in best.items() if key != "losses"},
        "tries": tries,
        "steps": sum(len(t["losses"]) for t in tries),
        "samples": sum(len(t["losses"]) for t in tries) * best["num_samples"],
        "seconds": round(time.perf_counter() - start, 3),
    }
    keep("overfit", run, content, memorised, folder, overrides, mode == "MULTIRUN")
    return share


def small_sample(run: Run, num_samples: int) -> Batch:
    """The first training samples in the run's order."""
    size = run.source.smallest_batch
    batches = list(islice(run.source.stream(0), min(-(-num_samples // size), run.source.steps_per_epoch)))
    return map_state(lambda t: t[:num_samples], merged(torch.cat, batches))


def fit(run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    """Update on the same sample until the loss is near zero or the updates are used up."""
    batch = small_sample(run, settings["num_samples"])
    ignorant = ignorance(run, run.predict(run.state, batch["x"]), batch["y"])[0]
    losses: list[float] = []
    accuracy: float | None = None
    for step in range(settings["num_steps"]):
        reseed_step(run.cfg["seed"], step)
        metrics = advance(run, batch, 0)
        losses.append(float(metrics["loss"]))
        accuracy = float(metrics["accuracy"]) if "accuracy" in metrics else None
        if not math.isfinite(losses[-1]) or is_known(losses[-1], accuracy, ignorant, run, settings["share"]):
            break
    return {
        "fits": is_known(losses[-1], accuracy, ignorant, run, settings["share"]),
        "learning_rate": learning_rates(run.cfg)["lr"],
        "loss": losses[-1],
        "accuracy": accuracy,
        "ignorant_loss": ignorant,
        "num_samples": len(batch["y"]),
        "num_updates": len(losses),
        "losses": losses,
    }


def is_known(loss: float, accuracy: float | None, ignorant: float, run: Run, share: float) -> bool:
    """Whether the sample is fitted: the loss is near zero and every sample is classified correctly."""
    every = accuracy == 1.0 if accuracy is not None and run.objective.exact else True
    return loss <= share * ignorant and every


def verdict_of(best: dict[str, Any], tries: list[dict[str, Any]]) -> tuple[str, str]:
    """Verdict and reason: pass if the sample was fitted at any of the learning rates."""
    right = "" if best["accuracy"] is None else f", accuracy {best['accuracy']:.0%}"
    said = (
        f"{best['num_samples']} samples: loss {best['loss']:.3g}{right} "
        f"(a constant prediction has {best['ignorant_loss']:.3g}) after "
        f"{best['num_updates']} updates at learning rate {best['learning_rate']:.3g}"
    )
    if best["fits"] and best["factor"] != 1:
        return "pass", f"{said}, which is not the configured rate."
    tried = f"{len(tries)} learning rates were tried" if len(tries) > 1 else "no other learning rate was tried"
    return ("pass", f"{said}.") if best["fits"] else ("fail", f"{said}; {tried}.")


def advice(best: dict[str, Any], tries: list[dict[str, Any]], settings: dict[str, Any]) -> list[str]:
    """Advice if the sample was not fitted, or not at the configured learning rate."""
    if best["fits"]:
        rate = best["learning_rate"]
        return [f"Type optim.lr={rate:.3g}: the configured one did not fit the sample."] if best["factor"] != 1 else []
    if all(not math.isfinite(t["loss"]) for t in tries):
        return ["The loss is NaN or infinite at every rate: check the data for NaN, and run job=check_init."]
    lines = []
    falling = best["losses"][-1] < 0.9 * best["losses"][len(best["losses"]) * 3 // 4]
    if falling:
        lines.append(f"The loss is still falling: type num_steps={2 * settings['num_steps']} for more updates.")
    if best["loss"] > 0.9 * best["ignorant_loss"]:
        lines.append("The model learns nothing: the targets may not belong to the inputs, or gradients may be zero.")
        lines.append("Run job=check_init, and look at a few samples with their targets.")
    else:
        lines.append("The model fits only a part of the sample: give it more capacity (model.width, model.depth).")
        lines.append("Look for samples that are alike but have different targets.")
    return [*lines, "Try another optim, or factors=[1,0.01,100] if the learning rate may be far off."]
