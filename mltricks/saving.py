"""The weights that a run predicts with: taken from its state, written, and used for a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.build import Run
from mltricks.functional_model import FunctionalModel
from mltricks.inputs.base import dtypes_of
from mltricks.predicting import sets_of_weights
from mltricks.state import State
from mltricks.step import predicting_params
from mltricks.technique import Params, defines
from mltricks.weights import BUFFER, OWN, PARAM, RAW, Weights, predict_from, write_weights


def predicting_weights(run: Run, state: State) -> tuple[Weights, dict[str, Any]]:
    """The tensors needed to predict as the state does.

    Returns:
        Copies on the CPU, named as in the file, each tensor once; and a nested dict that maps the techniques' own
        tensors to these names.
    """
    seen = [_named(run.model, *weights) for weights in sets_of_weights(run, state)]
    one_set = all(_same(seen[0], other) for other in seen)
    params = predicting_params(run.optim, state)
    raw = _named(run.model, params, state["buffers"])
    found = seen[0] if one_set else {RAW + name: tensor for name, tensor in raw.items()}
    names = {id(tensor): name for name, tensor in found.items()}

    def name_of(tree: Any, path: str) -> Any:
        if isinstance(tree, dict):
            return {key: name_of(branch, f"{path}.{key}") for key, branch in tree.items()}
        name = names.setdefault(id(tree), path)
        found[name] = tree
        return name

    shaping = [name for name, technique in run.techniques.items() if defines(technique, "evaluate")]
    own = {name: name_of(state["own"][name], OWN + name) for name in shaping}
    heads = {n: p for n, p in params.items() if n.partition("/")[0] in shaping and "/" in n}
    found |= {("" if one_set else RAW) + PARAM + name: p for name, p in heads.items()}
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in found.items()}, own


def _named(model: FunctionalModel, params: Params, buffers: dict[str, Tensor]) -> Weights:
    """The model's own parameters and buffers, without those that techniques added."""
    named = {PARAM + name: params[name] for name, _ in model.params}
    return named | {BUFFER + name: buffers[name] for name, _ in model.buffers}


def _same(a: Weights, b: Weights) -> bool:
    """Whether two sets of weights are equal: the same tensors, or equal values."""
    return all(a[name] is b[name] or torch.equal(a[name], b[name]) for name in a)


def predict_with(run: Run, weights: Weights, own: dict[str, Any]) -> Any:
    """The run's prediction with the given weights: test-time augmentation applies, averages do not."""
    info = run.data.info
    predict = predict_from(run.model, run.techniques, info.normalize, info.num_outputs, weights, own, run.device)
    return lambda state, x: predict(x)


def save_weights(path: Path, run: Run, weights: Weights, own: dict[str, Any]) -> None:
    """Write weights together with the configuration, the classes and the statistics of the inputs."""
    dtype = dtypes_of(next(run.data.val.batches([torch.arange(1)]))["x"])
    write_weights(path, run.cfg, run.data.info, dtype, weights, own)
