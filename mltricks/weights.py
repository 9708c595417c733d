"""The weights that predict: what is left of a run when training is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.atomic import write_atomically
from mltricks.build import Run
from mltricks.checkpoint import versions
from mltricks.state import State
from mltricks.step import prediction
from mltricks.technique import Ctx, Params

PARAM, BUFFER = "params.", "buffers."


def predicting_weights(run: Run, state: State) -> dict[str, Tensor]:
    """The model's parameters and buffers as the innermost prediction receives them: after EMA and the like.

    Returns:
        Copies on the CPU under ``params.<name>`` and ``buffers.<name>``.
    """
    seen: dict[str, Tensor] = {}

    def spy(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
        seen.update({PARAM + name: params[name] for name, _ in run.model.params})
        seen.update({BUFFER + name: ctx.buffers[name] for name, _ in run.model.buffers})
        return ctx.apply(params, x)

    x = next(run.data.val.batches([torch.arange(1)]))["x"]
    prediction(run.model, run.techniques, run.data.info.normalize, run.data.info.num_outputs, spy)(state, x)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in seen.items()}


def predict_with(run: Run, weights: dict[str, Tensor]) -> Any:
    """The run's prediction with given weights in the place of its state's: test-time augmentation stays, averages are bypassed."""
    params = {k.removeprefix(PARAM): v.to(run.device) for k, v in weights.items() if k.startswith(PARAM)}
    buffers = {k.removeprefix(BUFFER): v.to(run.device) for k, v in weights.items() if k.startswith(BUFFER)}

    def base(_: Params, x: Tensor, ctx: Ctx) -> Tensor:
        return run.model(params, buffers, x, train=False)[0]

    return prediction(run.model, run.techniques, run.data.info.normalize, run.data.info.num_outputs, base)


def save_weights(path: Path, run: Run, weights: dict[str, Tensor]) -> None:
    """Write weights with what is needed to use them: configuration, classes and the statistics of the inputs."""
    from safetensors.torch import save_file

    info = run.data.info
    tensors = dict(weights)
    if info.mean is not None and info.std is not None:
        tensors |= {"mean": info.mean.cpu().contiguous(), "std": info.std.cpu().contiguous()}
    about = {
        "kind": info.kind,
        "target": info.target,
        "in_shape": info.in_shape,
        "num_outputs": info.num_outputs,
        "classes": info.classes,
    }
    metadata = {"config": json.dumps(run.cfg), "info": json.dumps(about), "versions": json.dumps(versions())}
    write_atomically(path, lambda partial: save_file(tensors, partial, metadata))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of ``best.safetensors``.

    Raises:
        ValueError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = path / "checkpoints" / "best.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there are no weights at {path}. Give the output folder of a run, which holds checkpoints/best.safetensors.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"the weights {path} are damaged: {error}") from error
    if not {"config", "info"} <= metadata.keys():
        raise ValueError(f"{path} was not written by mltricks: it carries no configuration.")
    return tensors, metadata
