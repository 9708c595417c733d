"""The sharpness of a trained model: how far the loss rises near its weights, and the curvature there.

Sources: Keskar, Mudigere, Nocedal, Smelyanskiy, Tang, "On Large-Batch Training for Deep Learning: Generalization Gap
and Sharp Minima", 2017, arXiv:1609.04836, metric 2.1 with A = I (the full space) and epsilon = 1e-3; Foret et al.,
"Sharpness-Aware Minimization", 2021, arXiv:2010.01412, equation 1; power iteration: Yao, Gholami, Keutzer, Mahoney,
"PyHessian", 2020, arXiv:1912.07145, algorithm 1.
Deviation: the box is searched by gradients that point at its corners, the source uses L-BFGS-B; both give lower bounds.
All measures are of the objective alone, of the weights that predict, in evaluation mode (batch-norm statistics are
constants), in float32, without augmentation. None of them is invariant to rescaling layers that a following norm or a
rectifier undoes, so compare runs of one model.
Cost: two maximisations of ``steps`` gradients, up to twice ``iterations`` products with the Hessian (each about two
gradients), and the losses of the figure, on ``num_samples`` samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.config.compose import plain
from mltricks.config.values import Count, Positive, check_values
from mltricks.data.splits import Split
from mltricks.ensemble import Ensemble
from mltricks.figures.probes import slices
from mltricks.functional.curvature import (
    Terms,
    gradient_of,
    largest_in_ball,
    largest_in_box,
    moved,
    top_eigenvalue,
    unit,
    value_of,
)
from mltricks.functional_model import FunctionalModel
from mltricks.inference import load_checkpoint, load_splits
from mltricks.predictor import Predictor
from mltricks.probes.keep import write
from mltricks.state import PROBE, fold
from mltricks.technique import Params
from mltricks.weights import BUFFER, PARAM, RAW

SETTINGS = {
    **{name: Count for name in ("num_samples", "steps", "iterations")},
    **{name: Positive for name in ("epsilon", "rho", "tolerance", "reach")},
}
POINTS = 21
"""Points of a slice in the figure."""
UNSURE = 0.3
"""Residual, as a share of the eigenvalue, from which the result is said to be inexact."""


def sharpness(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float:
    """Measure the model in ``checkpoint``; return the top eigenvalue of the Hessian.

    Raises:
        ValueError: the checkpoint is missing, holds several sets of weights, or the data do not fit the model.
    """
    settings, start = plain(cfg)["job"], time.perf_counter()
    check_values(settings, SETTINGS)
    predictor, cfg = load_checkpoint(cfg, overrides, "sharpness")
    if isinstance(predictor, Ensemble) or any(name.startswith(RAW) for name in predictor.weights):
        raise ValueError(
            f"checkpoint={cfg['checkpoint']} predicts with several sets of weights, and sharpness is that of one. "
            "Give the folder of one run without technique=snapshot."
        )
    splits = load_splits(predictor, cfg)
    predictor = replace(predictor, objective=predictor.objective.fitted(splits))
    params, loss = loss_of(predictor, splits.train, settings["num_samples"], cfg["eval_batch_size"])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have no second derivative
        found = measure(loss, params, settings)
    content = {
        **found,
        "settings": {name: settings[name] for name in SETTINGS},
        "verdict": "measured",
        "reason": words(found, settings),
        "advice": advice(found, settings),
        "checkpoint": str(cfg["checkpoint"]),
        "steps": 0,
        "batch_size": cfg["batch_size"],
        "seconds": round(time.perf_counter() - start, 3),
    }
    value = float(found["top_eigenvalue"])
    objective = {"name": "top_eigenvalue", "value": value, "direction": "minimize"}
    write("sharpness", content, str(predictor.device), slices, folder, overrides, mode == "MULTIRUN", objective)
    return value


def loss_of(predictor: Predictor, split: Split, num: int, batch_size: int) -> tuple[Params, Terms]:
    """The parameters of a model, and its mean loss over samples as a function of them.

    Args:
        predictor: with one set of weights.
        split: the samples.
        num: how many of them, drawn without replacement, the same at every call; all if there are no more.
        batch_size: samples per forward pass.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(fold(0, PROBE)))[:num]
    model = FunctionalModel(predictor.model.module)  # float32
    held = {name: t.to(predictor.device) for name, t in predictor.weights.items()}
    params = {name: held[PARAM + name].float() for name, _ in model.params}
    buffers = {name: held[BUFFER + name] for name, _ in model.buffers}
    batches = list(split.batches(order.split(batch_size)))

    def terms(params: Params) -> Iterator[Tensor]:
        for batch in batches:
            outputs, _, _ = model(params, buffers, predictor.info.normalize(batch["x"]), train=False)
            yield predictor.objective.mean(outputs, batch["y"]) * (len(batch["y"]) / len(order))

    return params, terms


def measure(loss: Terms, params: Params, settings: dict[str, Any]) -> dict[str, Any]:
    """All measures of ``settings``, and the losses along three directions for the figure."""
    value, gradient = gradient_of(loss, params)
    box = largest_in_box(loss, params, settings["epsilon"], settings["steps"])
    ball = largest_in_ball(loss, params, settings["rho"], settings["steps"])
    top = top_eigenvalue(loss, params, settings["iterations"], settings["tolerance"])
    generator = torch.Generator().manual_seed(fold(0, PROBE))
    chance = unit([torch.randn(p.shape, generator=generator).to(p) for p in params.values()])
    directions = {"top eigenvector": top.vector, "gradient": unit(gradient), "random": chance}
    reach = [settings["reach"] * (2 * i / (POINTS - 1) - 1) for i in range(POINTS)]
    return {
        "loss": value,
        "box_sharpness": 100 * (box - value) / (1 + value),
        "ball_rise": ball - value,
        "top_eigenvalue": top.value,
        "products": top.iterations,
        "residual": top.residual,
        "distances": reach,
        "slices": {
            name: [value_of(loss, moved(params, direction, r)) for r in reach] for name, direction in directions.items()
        },
    }


def words(found: dict[str, Any], settings: dict[str, Any]) -> str:
    """The measures in one sentence."""
    return (
        f"The top eigenvalue of the Hessian is {found['top_eigenvalue']:.4g}; the loss of {found['loss']:.4g} rises by "
        f"{found['ball_rise']:.4g} within a distance of {settings['rho']:g}, and the sharpness in a box of "
        f"{settings['epsilon']:g} is {found['box_sharpness']:.4g}."
    )


def advice(found: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """What to change where the power iteration has not converged."""
    if found["residual"] < UNSURE:
        return []
    return [
        f"The eigenvector is not exact (residual {found['residual']:.2g} of the eigenvalue): the largest eigenvalues "
        f"lie close together. Type iterations={2 * settings['iterations']} or a smaller tolerance for more digits."
    ]
