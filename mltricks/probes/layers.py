"""Signals in every layer at the start: activations, dead units, gradients.

Legend: B batch, C channels or units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.step import gradient, normalized
from mltricks.technique import Ctx

RECTIFIERS = (nn.ReLU, nn.ReLU6)
SKIPPED = (nn.Dropout, nn.Identity, nn.Flatten)


def context(run: Run) -> Ctx:
    """The context of the verbs at the first step of a run."""
    parts = dict(run.state["buffers"]), run.state["own"], run.state["step"]
    return Ctx(run.model, *parts, 0.0, run.data.info.num_outputs, steps_per_epoch=run.source.steps_per_epoch)


def ready(run: Run, batch: Batch) -> Batch:
    """A batch with normalised inputs, as the model receives it."""
    return normalized(batch, run.data.info.normalize)


@torch.no_grad()
def activations(run: Run, batch: Batch) -> list[dict[str, Any]]:
    """For every layer, in order: name, kind, standard deviation of outputs, share of dead units (ReLU).

    A unit is dead if its output is zero for the whole batch, at every position.
    """
    leaves = {name: m for name, m in run.model.module.named_modules() if name and not list(m.children())}
    names = [name for name, m in leaves.items() if not isinstance(m, SKIPPED)]
    _, captured = context(run).apply(run.state["params"], batch["x"], capture=names)
    return [
        _row(name, leaves[name], captured[name][1])
        for name in names
        if isinstance(captured.get(name, (0, 0))[1], Tensor)
    ]


def _row(name: str, module: nn.Module, output: Tensor) -> dict[str, Any]:
    row = {"layer": name, "kind": type(module).__name__, "std": float(output.float().std(correction=0))}
    row["weights"] = any(p.ndim > 1 for p in module.parameters()) and not isinstance(module, nn.Embedding)
    if isinstance(module, RECTIFIERS):
        units = output.transpose(0, -1).flatten(1) if output.ndim == 3 else output.transpose(0, 1).flatten(1)
        row["dead"] = float((units == 0).all(1).float().mean())
    return row


def gradients(run: Run, batch: Batch) -> list[dict[str, Any]]:
    """The norm of every weight, and of its gradient of the objective without techniques, in the model's order."""
    params = {name: p for name, p in run.state["params"].items()}
    found, _ = gradient(run.objective)(params, batch, context(run))
    return [
        {"weight": name, "norm": float(params[name].norm()), "gradient": float(g.float().norm())}
        for name, g in found.items()
        if params[name].ndim > 1
    ]
