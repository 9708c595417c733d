"""The ratio of update to weight: the norm of a weight's change divided by the weight's norm.

Source: CS231n, "Babysitting the learning process": about 1e-3 is healthy; far less learns slowly, far more is unstable.
Deviation: measured on the weights themselves, over a few further updates of a run, so that momentum,
adaptive steps and weight decay are included.
Cost: ``num_steps`` updates.
"""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

from mltricks import checkpoint
from mltricks.build import Run, build
from mltricks.checkpoint import LAST
from mltricks.config.compose import plain
from mltricks.config.values import Count, check_value
from mltricks.figures.probes import update_ratios
from mltricks.probes.bare import constant_rate
from mltricks.probes.keep import keep
from mltricks.state import map_state, reseed_step
from mltricks.train import advance

HEALTHY = (1e-4, 1e-2)
"""The range of healthy update-to-weight ratios: within a factor of ten of 1e-3."""


def update_ratio(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float:
    """Continue the run in ``checkpoint`` for a few updates; return the median ratio over its weights.

    The command must repeat the run's configuration; the learning rate is constant at the configured value.

    Raises:
        ValueError: there is no checkpoint, or its tensors do not fit the configuration.
    """
    cfg, start = plain(cfg), time.perf_counter()
    settings = cfg["job"]
    check_value("num_steps", settings["num_steps"], Count)
    if cfg["checkpoint"] is None:
        raise ValueError("job=update_ratio needs a checkpoint. Type checkpoint=DIR, the run's output folder.")
    run = build(constant_rate(cfg))
    path = Path(cfg["checkpoint"])
    saved = checkpoint.load(path)["state"]
    saved.pop("host", None)
    run.state = checkpoint.restore(saved, run.state, path / LAST)
    rows = measure(run, settings["num_steps"])
    ratio = statistics.median(r["ratio"] for r in rows)
    verdict = "pass" if HEALTHY[0] <= ratio <= HEALTHY[1] else "fail"
    content = {
        "verdict": verdict,
        "reason": f"an update changes a weight by {ratio:.2g} of its size (median of {len(rows)}); 1e-3 is usual.",
        "advice": advice(ratio),
        "ratio": ratio,
        "weights": rows,
        "steps": settings["num_steps"],
        "seconds": round(time.perf_counter() - start, 3),
    }
    keep("update_ratio", run, content, update_ratios, folder, overrides, mode == "MULTIRUN")
    return ratio


def measure(run: Run, num_steps: int) -> list[dict[str, Any]]:
    """The mean ratio of every weight of a convolution, linear layer or embedding."""
    names = [name for name, p in run.state["params"].items() if p.ndim > 1 and name not in run.frozen]
    ratios: dict[str, list[float]] = {name: [] for name in names}
    first = int(run.state["step"])
    for step, batch in zip(range(first, first + num_steps), run.batches(first), strict=False):
        reseed_step(run.cfg["seed"], step)
        before = map_state(lambda t: t.clone(), {name: run.state["params"][name] for name in names})
        advance(run, batch, min(step, run.total_steps - 1))
        for name in names:
            change = run.state["params"][name] - before[name]
            ratios[name].append(float(change.norm() / before[name].norm().clamp_min(1e-12)))
    return [{"weight": name, "ratio": statistics.fmean(found)} for name, found in ratios.items()]


def advice(ratio: float) -> list[str]:
    """The changes to make if the ratio is far from 1e-3."""
    if not math.isfinite(ratio) or ratio > HEALTHY[1]:
        return ["The updates are large relative to the weights: type a smaller optim.lr."]
    return ["The updates are small relative to the weights: type a larger optim.lr."] if ratio < HEALTHY[0] else []
