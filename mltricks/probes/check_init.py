"""The initial loss: it should be that of a constant prediction, and regularisation should only add to it.

Source: the first step of tuning with few GPUs in Stanford's CS231n: check the initial loss without weight decay.
Cost: the forward passes of a few batches and of the validation split, and the gradient of one batch.
"""

from __future__ import annotations

import math
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.config.values import Count, Positive, check_value
from mltricks.evaluate import evaluate
from mltricks.figures.probes import signals
from mltricks.probes.bare import bare_run
from mltricks.probes.keep import keep
from mltricks.probes.layers import activations, context, gradients, ready
from mltricks.state import leaves, merged, reseed_step
from mltricks.step import onion, split_at_normalize, through

BELOW = 0.3
"""The initial loss may be below the expected one by this fraction of it."""
NOTABLE = 0.25
"""An excess of the loss over the expected one, as a fraction of it, that gives advice."""
INPUT_STD = (0.3, 3.0)
"""Standard deviations of well-scaled inputs."""
SPREAD = 100.0
"""Largest ratio between standard deviations of activations of different layers."""
GRADIENT_SPREAD = 1e4
"""Largest ratio between norms of gradients of different weights."""
DEAD = 0.5
"""Above this fraction of dead units in a layer, there is advice."""


def check_init(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float:
    """Measure the initial loss and the signals in the layers; return the relative gap to the expected loss.

    Raises:
        ValueError: the configuration is refused.
    """
    cfg, start = plain(cfg), time.perf_counter()
    check_value("num_batches", cfg["job"]["num_batches"], Count)
    check_value("tolerance", cfg["job"]["tolerance"], Positive)
    run = bare_run(cfg)
    found = {**initial_loss(run, cfg["job"]["num_batches"]), **regularised(cfg), **inside(run)}
    verdict, reason = verdict_of(found, cfg["job"]["tolerance"])
    content = {
        "verdict": verdict,
        "reason": reason,
        "advice": advice(found, cfg["job"]["tolerance"]),
        **found,
        "tolerance": cfg["job"]["tolerance"],
        "steps": 0,
        "gradient_steps": 1,
        "seconds": round(time.perf_counter() - start, 3),
    }
    keep("check_init", run, content, signals, folder, overrides, mode == "MULTIRUN")
    return abs(found["gap"])


@torch.no_grad()
def initial_loss(run: Run, num_batches: int) -> dict[str, Any]:
    """The mean loss of the first batches in training mode, and the loss of a constant prediction.

    The validation loss is measured too, for comparison with later ones.
    """
    outputs, targets, inputs = [], [], []
    for i, raw in enumerate(islice(run.source.stream(0), num_batches)):
        reseed_step(run.cfg["seed"], i)
        batch = ready(run, raw)
        outputs.append(context(run).apply(run.state["params"], batch["x"]))
        targets.append(batch["y"])
        inputs.append(run.data.info.input.spread(batch["x"]))
    spreads = [spread for spread in inputs if spread is not None]
    output, y = merged(torch.cat, outputs), torch.cat(targets)
    loss = float(run.objective.judge(output, y)[0])
    val = evaluate(run.predict, run.objective, run.state, run.data.val, run.cfg["eval_batch_size"])
    expected, words = ignorance(run, output, y)
    return {
        "loss": loss,
        "val_loss": val["loss"],
        "expected": expected,
        "expected_is": words,
        "gap": (loss - expected) / max(expected, 1e-12) if math.isfinite(loss) else math.inf,
        "output_std": float(torch.cat([t.float().flatten() for t in leaves(output)]).std(correction=0)),
        "input_std": float(torch.stack(spreads).mean()) if spreads else None,
        **run.objective.spread(y),
    }


def ignorance(run: Run, outputs: Any, y: Tensor) -> tuple[float, str]:
    """The loss of a constant prediction, and its name, such as ``ln 10``."""
    ignorant, words = run.objective.ignorant(outputs, y)
    return float(run.objective.judge(ignorant, y)[0]), words


def regularised(cfg: dict[str, Any]) -> dict[str, Any]:
    """The loss with all configured techniques on the first batch, and the part that penalties add."""
    run = build(cfg)
    reseed_step(cfg["seed"], 0)
    value, metrics = whole_loss(run, next(run.source.stream(0)))
    decay = cfg["optim"].get("weight_decay")
    return {
        "loss_regularised": value,
        "penalty": metrics.get("penalty"),
        "weight_decay": decay if isinstance(decay, float | int) else None,
    }


@torch.no_grad()
def whole_loss(run: Run, batch: Batch) -> tuple[float, dict[str, float]]:
    """The training loss as the step computes it, with all techniques, and its metrics."""
    ctx, techniques = context(run), run.techniques
    raw, rest = split_at_normalize(techniques)
    batch = through(techniques, rest, ready(run, through(techniques, raw, batch, ctx)), ctx)
    value, aux = onion(techniques, "loss", run.objective)(run.state["params"], batch, ctx)
    return float(value), {name: float(metric) for name, metric in aux["metrics"].items()}


def inside(run: Run) -> dict[str, Any]:
    """Activations and gradients of the first batch, layer by layer."""
    reseed_step(run.cfg["seed"], 0)
    batch = ready(run, next(run.source.stream(0)))
    return {"activations": activations(run, batch), "gradients": gradients(run, batch)}


def verdict_of(found: dict[str, Any], tolerance: float) -> tuple[str, str]:
    """Verdict and reason: pass if the loss is as expected and the penalties add to it."""
    said = f"initial loss {found['loss']:.4g}, {found['expected_is']} = {found['expected']:.4g}"
    if not found["gap"] <= tolerance:
        return "fail", f"{said}: {found['gap']:.0%} above, but at most {tolerance:.0%} is tolerated."
    if found["gap"] < -BELOW:
        return "fail", f"{said}: {-found['gap']:.0%} below, which an untrained model cannot reach."
    if found["penalty"] is not None and not found["penalty"] > 0:
        return (
            "fail",
            f"{said}; the penalty adds {found['penalty']:g}, so the loss does not rise with regularisation on.",
        )
    return "pass", f"{said}; {said_of_penalty(found)}."


def said_of_penalty(found: dict[str, Any]) -> str:
    """The effect of regularisation on the loss, or why there is none."""
    if found["penalty"] is not None:
        return f"regularisation adds {found['penalty']:.3g}"
    if found["weight_decay"]:
        return f"weight decay {found['weight_decay']:g} acts on the weights and does not show in the loss"
    return "no regularisation is configured, so nothing is added to the loss"


def advice(found: dict[str, Any], tolerance: float) -> list[str]:
    """Lines of advice, each with its evidence."""
    spreads = [r["std"] for r in found["activations"] if r["weights"]]
    norms = [r["gradient"] for r in found["gradients"]]
    dead = [(r["layer"], r["dead"]) for r in found["activations"] if r.get("dead", 0.0) > DEAD]
    lines = []
    if not found["gap"] <= min(NOTABLE, tolerance):
        lines.append(
            f"The outputs have standard deviation {found['output_std']:.3g}, too much for an untrained model. "
            "Initialise with init=default or init=xavier, a smaller init.gain, or a last layer near zero."
        )
        if abs(found.get("target_mean", 0.0)) > 3 * found.get("target_std", math.inf):
            lines.append(
                f"The targets have mean {found['target_mean']:.3g}: scale them to mean 0, standard deviation 1."
            )
    elif found["gap"] < -BELOW:
        lines.append(
            "An untrained model beats a constant prediction: check for targets among the inputs or pretrained weights."
        )
    if found["penalty"] is not None and not found["penalty"] > 0:
        lines.append("Give the penalty a strength above 0, or leave it out.")
    if found["input_std"] is not None and not INPUT_STD[0] < found["input_std"] < INPUT_STD[1]:
        lines.append(f"The inputs have standard deviation {found['input_std']:.3g}: scale the data to about 1.")
    if spreads and max(spreads) > SPREAD * max(min(spreads), 1e-30):
        lines.append(
            f"The layers' outputs have standard deviations from {min(spreads):.2g} to {max(spreads):.2g}. "
            "Initialise with init=kaiming, or add normalisation."
        )
    if norms and max(norms) > GRADIENT_SPREAD * max(min(norms), 1e-30):
        lines.append(
            f"Gradient norms range from {min(norms):.2g} to {max(norms):.2g}: they vanish or explode with depth. "
            "Initialise with init=kaiming or init=orthogonal, or add normalisation or residual connections."
        )
    lines += [
        f"{share:.0%} of the units of {layer} are dead: try smaller biases or init=kaiming." for layer, share in dead
    ]
    return lines
