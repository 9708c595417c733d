"""What a run is, in a few lines at its start: data, model, device, and what differs from the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mltricks.config.options import called
from mltricks.observers.changes import changed
from mltricks.observers.formats import wrapped

if TYPE_CHECKING:
    from mltricks.build import Run

BETWEEN = {"changed": "  ", "notes": " "}
"""What separates the parts of a line, where it is no comma."""


def header(run: Run, overrides: Sequence[str], width: int) -> list[str]:
    """Lines of at most ``width`` columns that say what is trained, on what, and how."""
    parts = {
        "run": [str(run.cfg["name"])] if run.cfg.get("name") is not None else [],
        "tags": [str(tag) for tag in run.cfg.get("tags") or ()],
        "notes": str(run.cfg["notes"]).split() if run.cfg.get("notes") is not None else [],
        "data": data_parts(run),
        "model": [f"{called(run.cfg['model'])}: {parameters(run)}"],
        "device": device_parts(run),
        "changed": list(changed(overrides, run.cfg)),
    }
    lines: list[str] = []
    for name, said in parts.items():
        lines += wrapped(f"{name:<9}", said, width, BETWEEN.get(name, ", ")) if said else []
    return lines


def data_parts(run: Run) -> list[str]:
    """The data set with the sizes of its splits, the shape of a sample and the number of classes."""
    data, info = run.data, run.data.info
    sizes = {"train": data.train, "validation": data.val, "test": data.test}
    first, *others = [f"{len(split):,} {name}" for name, split in sizes.items()]
    shape = "x".join(map(str, info.in_shape)) if isinstance(info.in_shape, tuple | list | torch.Size) else ""
    said = [f"{called(run.cfg['data'])}: {first}", *others]
    return [
        *said,
        *([f"shape {shape}"] if shape else []),
        *filter(None, [run.objective.outputs.format(info.num_outputs)]),
    ]


def parameters(run: Run) -> str:
    """The number of parameters, and how many of them are trained if not all."""
    total, trained = sum(p.numel() for p in run.state["params"].values()), run.num_params
    return f"{total:,} parameters" if trained == total else f"{total:,} parameters, {trained:,} of them trained"


def device_parts(run: Run) -> list[str]:
    """The device, the engine and the precision."""
    kind, threads = run.device.type, torch.get_num_threads()
    device = torch.cuda.get_device_name(run.device) if kind == "cuda" else str(run.device)
    if kind == "cpu":
        device += f" with {threads} thread{'s' if threads > 1 else ''}"
    return [device, f"engine {called(run.cfg['engine'])}", f"precision {run.cfg['precision']['dtype']}"]
