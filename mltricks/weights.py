"""The file of the weights that predict: written, loaded, and turned into a prediction.

The file ``checkpoints/best.safetensors`` holds, for a prediction that runs the model with one set of weights,

``params.<name>``, ``buffers.<name>``   the tensors the model runs with, for instance those averaged by EMA
``own.<technique>.<name>``              other tensors of techniques that change the prediction
``input.<name>``                        tensors of the input kind, such as mean and std

If the prediction uses several sets of weights (an ensemble), ``raw.params`` and ``raw.buffers`` replace the first line.
They are the training weights, from which, with ``own``, the techniques rebuild the members.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.artifacts import local_file
from mltricks.checkpoint import digest, versions
from mltricks.config.newer import with_newer
from mltricks.data.info import Info
from mltricks.functional_model import FunctionalModel
from mltricks.inputs.base import restored, saved
from mltricks.process.atomic import first_line, write_atomically
from mltricks.state import named_leaves
from mltricks.step import Techniques, build_predict
from mltricks.technique import Ctx, Params

PARAM, BUFFER, OWN, RAW, INPUT = "params.", "buffers.", "own.", "raw.", "input."
Weights = dict[str, Tensor]


def predict_from(
    model: FunctionalModel,
    techniques: Techniques,
    normalize: Callable[[Tensor], Tensor],
    num_outputs: int,
    weights: Weights,
    own: dict[str, Any],
    device: torch.device,
) -> Callable[[Tensor], Tensor]:
    """Build a function from raw inputs (B, ...) to outputs, from the result of ``predicting_weights``.

    Args:
        model: the model as a function; its own parameters are not used.
        techniques: those of the run; only their ``evaluate`` is used.
        normalize: maps raw inputs to the model's inputs.
        num_outputs: width of the output.
        weights: by name.
        own: names of the techniques' own tensors.
        device: to compute on.
    """
    weights = {name: tensor.to(device) for name, tensor in weights.items()}
    raw = RAW if any(name.startswith(RAW) for name in weights) else ""
    params, buffers = (_cut(weights, raw + kind) for kind in (PARAM, BUFFER))
    step = torch.zeros((), dtype=torch.int64, device=device)
    state = {"params": params, "buffers": buffers, "own": looked_up(own, weights), "step": step}

    def fixed(_: Params, x: Tensor, ctx: Ctx) -> Tensor:
        return model(params, buffers, x, train=False)[0]

    base = (lambda p, x, ctx: ctx.apply(p, x)) if raw else fixed
    predict = build_predict(model, techniques, normalize, num_outputs, base)
    return lambda x: predict(state, x)


def _cut(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def looked_up(names: Any, weights: Weights) -> Any:
    """A nested dict of names with the tensors of these names in their places."""
    if isinstance(names, dict):
        return {key: looked_up(branch, weights) for key, branch in names.items()}
    return weights[names]


def write_weights(
    path: Path, cfg: dict[str, Any], info: Info, dtype: Any, weights: Weights, own: dict[str, Any]
) -> None:
    """Write ``best.safetensors``.

    Args:
        path: of the file.
        cfg: configuration of the run that the weights are from.
        info: describes its data.
        dtype: name of the dtype of raw inputs; a dict of names for inputs of several parts.
        weights, own: as ``predicting_weights`` returns them.
    """
    from safetensors.torch import save

    node, statistics = saved(info.input)
    tensors = {**weights, **dict(named_leaves(statistics, INPUT))}
    about = {"input": node, "target": info.target, "num_outputs": info.num_outputs, "classes": info.classes}
    content = {"config": cfg, "info": about, "own": own, "dtype": dtype, "versions": versions()}
    metadata = {name: json.dumps(value) for name, value in content.items()}
    metadata["digest"] = digest({**metadata, "tensors": tensors})
    # not save_file: if killed it leaves its temporary file behind, and its files are readable by their owner only
    write_atomically(path, lambda partial: partial.write_bytes(save(tensors, metadata)))


def info_of(about: dict[str, Any], tensors: Weights, allow: Sequence[str]) -> Info:
    """The description of a run's data, from its ``best.safetensors``.

    Args:
        about: the metadata of the file.
        tensors: its tensors; those of the input kind are removed from the dict.
        allow: packages whose input kinds the file may name.

    Raises:
        ValueError: the file names no input kind, as in earlier versions, or a class that is none.
    """
    statistics: dict[str, Any] = {}
    for name in [name for name in tensors if name.startswith(INPUT)]:
        *path, last = name.removeprefix(INPUT).split(".")
        inner = statistics
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = tensors.pop(name)
    known = about["info"]
    if "input" not in known:
        raise ValueError(
            "an earlier version of mltricks wrote these weights, with another description of inputs. Train again."
        )
    kind = restored(known["input"], statistics, allow)
    return Info(kind, known["target"], known["num_outputs"], tuple(known["classes"]))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of ``best.safetensors``.

    Args:
        path: of the file, or of the folder of its run; or an artifact, ``wandb:ENTITY/PROJECT/NAME:ALIAS``.

    Raises:
        ValueError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = local_file(path)
    path = path / "checkpoints" / "best.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there are no weights at {path}. Give the output folder of a run that has been validated.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
        known = metadata.pop("digest", None)
        about = {key: json.loads(value) for key, value in metadata.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"the weights {path} are damaged: {first_line(error)}. Restore the file, or train again."
        ) from error
    if not {"config", "info", "own", "dtype"} <= about.keys():
        raise ValueError(f"{path} was not written by mltricks: it carries no configuration.")
    if known != digest({**metadata, "tensors": tensors}):
        reason = "their content does not match their hash" if known else "an earlier version wrote them, without a hash"
        raise ValueError(f"the weights {path} cannot be trusted: {reason}. Train again, or restore the file.")
    return tensors, {**about, "config": with_newer(about["config"])}
