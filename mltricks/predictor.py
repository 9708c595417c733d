"""A trained model, ready to use: ``mltricks.load("outputs/…").predict(x)``.

Everything is read from ``checkpoints/best.safetensors``; the data set is not needed. The configuration in that file
names the classes to instantiate, so only those of mltricks, PyTorch and packages that the caller allows are accepted.

Shapes: N samples, (C, H, W) images, L tokens, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.config.create import TRUSTED, create
from mltricks.config.settings import check_settings
from mltricks.config.values import Count, check_value
from mltricks.construct import create_techniques, make_model
from mltricks.data.info import Info
from mltricks.functional_model import DTYPES, FunctionalModel
from mltricks.inputs.base import Dtypes, Raw
from mltricks.predicting_module import PredictingModule, as_module
from mltricks.process.device import choose_device
from mltricks.state import SETUP, fold, leaves, map_state, reseed
from mltricks.step import Techniques
from mltricks.technique import defines
from mltricks.weights import BUFFER, PARAM, RAW, Weights, info_of, load_weights, predict_from

DTYPES_BY_NAME = {str(t).removeprefix("torch."): t for t in vars(torch).values() if isinstance(t, torch.dtype)}


def load_run(
    path: str | Path, allow_modules: Sequence[str] = (), device: str = "auto", model: nn.Module | None = None
) -> Predictor:
    """Load the model of a finished run.

    Args:
        path: output folder of the run, or its ``best.safetensors``.
        allow_modules: packages, besides mltricks and torch, whose classes the file may name.
        device: where to predict, as ``device=`` on the command line.
        model: a module of the run's class and sizes, where a program gave the run its model; the weights go into a
            copy of it.

    Raises:
        ValueError: the weights are missing or damaged, or name classes of a package that is not allowed.
    """
    weights, about = load_weights(Path(path))
    cfg, allow = about["config"], list(allow_modules)
    used = {key: cfg[key] for key in ("model", "objective", "technique")}
    unknown = sorted(packages(used) - {*TRUSTED, *allow})
    if unknown:
        raise ValueError(
            f"{path} names classes of {', '.join(unknown)}: their code would be run. If you trust it, pass "
            f"allow_modules={[*allow, *unknown]} to mltricks.load, or type allow_modules={'+'.join(allow + unknown)}."
        )
    where = choose_device(device)
    try:
        return assemble(cfg, about, weights, allow, where, model)
    except (KeyError, TypeError, AttributeError) as error:  # what a file that was tampered with can lead to
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} does not hold what mltricks writes ({reason}). Train again, or restore it."
        ) from error


def assemble(
    cfg: dict[str, Any],
    about: dict[str, Any],
    weights: Weights,
    allow: list[str],
    where: torch.device,
    given: nn.Module | None,
) -> Predictor:
    """The predictor that the parts of a file describe."""
    check_settings(cfg)
    info = info_of(about, weights, allow).to(where)
    objective = create(cfg["objective"], "objective", allow)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # keeps the caller's random state unchanged
        model, techniques = rebuild(cfg, info, objective, allow, weights, where, given)
    forward = predict_from(model, techniques, info.normalize, info.num_outputs, weights, about["own"], where)
    dtype = map_state(DTYPES_BY_NAME.__getitem__, about["dtype"])
    return Predictor(cfg, info, objective, model, forward, dtype, where, techniques, weights, about["own"])


def packages(tree: Any) -> set[str]:
    """The packages of all classes that a nested configuration names."""
    if isinstance(tree, dict):
        named = {tree["_target_"].partition(".")[0]} if isinstance(tree.get("_target_"), str) else set()
        return named.union(*map(packages, tree.values()))
    return set().union(*map(packages, tree)) if isinstance(tree, list) else set()


def rebuild(
    cfg: dict[str, Any],
    info: Info,
    objective: Any,
    allow: list[str],
    weights: Weights,
    device: torch.device,
    given: nn.Module | None = None,
) -> tuple[FunctionalModel, Techniques]:
    """Rebuild the saved model and its techniques.

    ``setup`` of a technique may have changed the model, so it runs again, on noise instead of data. Techniques that
    change the loss are left out, because their teacher or projector takes part in training only.

    Raises:
        ValueError: the weights do not fit the model.
    """
    node = without_first_weights(cfg["model"])
    module = make_model(node, info, allow, objective, given).to(device)
    techniques, _ = create_techniques(cfg, allow)
    params: dict[str, Tensor] = {name: p.detach().clone() for name, p in module.named_parameters()}
    for i, technique in enumerate(techniques.values()):
        if defines(technique, "setup") and (defines(technique, "evaluate") or not defines(technique, "loss")):
            seed = fold(cfg["seed"], SETUP, i)
            reseed(seed)
            technique.check(info)
            size = cfg["batch_size"]
            batch = {"x": info.input.noise(size, device), "y": objective.noise(info, size, device)}
            params, _ = technique.setup(module, params, batch, seed)
    model = FunctionalModel(module, DTYPES[cfg["precision"]["dtype"]], device.type)
    check_weights(model, module, weights)
    return model, techniques


def without_first_weights(node: dict[str, Any]) -> dict[str, Any]:
    """A model's node without settings that download or read pretrained weights, which the saved ones replace."""
    fetching = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "weights", "weights_backbone")
    node = {**node, "pretrained": False} if "pretrained" in node else dict(node)
    if isinstance(node.get("arguments"), dict):
        node["arguments"] = {key: value for key, value in node["arguments"].items() if key not in fetching}
    return node


def check_weights(model: FunctionalModel, module: nn.Module, weights: Weights) -> None:
    """Refuse weights that are missing or have another shape.

    Raises:
        ValueError: names the first such tensor.
    """
    raw = RAW if any(name.startswith(RAW) for name in weights) else ""
    for kind, places in ((PARAM, model.params), (BUFFER, model.buffers)):
        for name, slots in places:
            wanted, found = slots[0][0][slots[0][1]].shape, weights.get(raw + kind + name)
            if found is None or found.shape != wanted:
                what = "is missing" if found is None else f"has shape {tuple(found.shape)}"
                raise ValueError(
                    f"the weights do not fit {type(module).__name__}: {name}, of shape {tuple(wanted)}, {what}. "
                    "They were written by another version of mltricks or of the model."
                )


@dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """The model that ``load`` returns, with the preprocessing and the prediction of its run.

    Attributes:
        cfg: configuration of the run.
        info: describes the run's data.
        objective: turns outputs into probabilities or values.
        model: the model as a function.
        forward: maps raw inputs (B, ...), as the run's data had them, to outputs.
        dtype: of raw inputs; a dict for inputs of several parts.
        device: of the model.
        techniques: of the run.
        weights: those that predict, by name, as ``mltricks.weights`` lists them.
        own: names of the techniques' own tensors among the weights.
    """

    cfg: dict[str, Any]
    info: Info
    objective: Any
    model: FunctionalModel
    forward: Any
    dtype: Dtypes
    device: torch.device
    techniques: Techniques
    weights: Weights
    own: dict[str, Any]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cfg['model']['_target_']}, {self.info.input}, {self.device})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities; empty for values."""
        return self.info.classes

    @torch.no_grad()
    def predict(self, x: Any, batch_size: int | None = None) -> Tensor:
        """Class probabilities (N, K), or values, on the CPU.

        Args:
            x: raw inputs as tensor, array or list: uint8 images (N, H, W, C) or (N, C, H, W), or PIL images, which are
                converted and resized; features (N, D); tokens (N, L); for inputs of several parts a dict of these.
                One sample without N counts as N = 1.
            batch_size: samples per forward pass; the run's ``eval_batch_size`` by default.

        Raises:
            ValueError: the inputs have another shape or type.
        """
        return self.outputs_of(self.prepare(x), batch_size)

    def module(self) -> PredictingModule:
        """The trained model in plain torch: a module in evaluation mode that maps raw inputs to logits or values.

        Raises:
            ValueError: the run predicts with more than one set of weights.
        """
        return as_module(self.model, self.techniques, self.info, self.weights, self.own, self.device)

    def prepare(self, x: Any) -> Raw:
        """Convert inputs to the form of the run's own data."""
        return self.info.input.prepare(x, self.dtype)

    @torch.no_grad()
    def outputs_of(self, x: Raw, batch_size: int | None = None) -> Tensor:
        """The same as ``predict``, for prepared inputs."""
        if batch_size is not None:
            check_value("batch_size", batch_size, Count)
        size, num = batch_size or self.cfg["eval_batch_size"], len(next(leaves(x)))
        pieces = (map_state(lambda t: t[i : i + size].to(self.device), x) for i in range(0, num, size))  # noqa: B023
        return torch.cat([self.objective.predict(self.forward(piece)).cpu() for piece in pieces])
