"""A trained model, ready to use: ``mltricks.load("outputs/…").predict(x)``.

Everything comes from ``checkpoints/best.safetensors``; the data set is not needed. The configuration in that file names
the classes to be made, so only those of mltricks and PyTorch are, and others where the caller allows their package.

Shapes: N samples, (C, H, W) images, L tokens, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.build import DTYPES, SETUP, create_stack, make_model
from mltricks.config.create import TRUSTED, create
from mltricks.data.splits import Info
from mltricks.functional_model import FunctionalModel
from mltricks.process.device import choose_device
from mltricks.state import fold, reseed
from mltricks.step import Stack
from mltricks.technique import defines
from mltricks.weights import BUFFER, PARAM, RAW, Weights, load_weights, predict_from


def load(path: str | Path, allow_modules: Sequence[str] = (), device: str = "auto") -> Predictor:
    """The model of a run that is over.

    Args:
        path: output folder of the run, or its ``best.safetensors``.
        allow_modules: packages, besides mltricks and torch, whose classes the file may name.
        device: where to predict, as ``device=`` on the command line.

    Raises:
        ValueError: there are no weights, they are damaged, or they name classes of a package that is not allowed.
    """
    weights, about = load_weights(Path(path))
    cfg, allow = about["config"], list(allow_modules)
    used = {key: cfg[key] for key in ("model", "objective", "technique")}
    unknown = sorted(packages(used) - {*TRUSTED, *allow})
    if unknown:
        raise ValueError(
            f"{path} names classes of {', '.join(unknown)}: their code would be run. If you trust it, pass "
            f"allow_modules={[*allow, *unknown]} to mltricks.load, or type allow_modules=[{','.join(allow + unknown)}]."
        )
    shape, classes = tuple(about["info"]["in_shape"]), tuple(about["info"]["classes"])
    statistics = {name: weights.pop(name, None) for name in ("mean", "std")}
    where = choose_device(device)
    info = Info(**{**about["info"], "in_shape": shape, "classes": classes, **statistics}).to(where)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # the caller's random state stays as it is
        model, techniques = rebuild(cfg, info, allow, weights, where)
    objective = create(cfg["objective"], "objective", allow)
    forward = predict_from(model, techniques, info.normalize, info.num_outputs, weights, about["own"], where)
    return Predictor(cfg, info, objective, model, forward, getattr(torch, about["dtype"]), where)


def packages(tree: Any) -> set[str]:
    """The packages of all classes that a nested dict names."""
    if isinstance(tree, dict):
        named = {tree["_target_"].partition(".")[0]} if isinstance(tree.get("_target_"), str) else set()
        return named.union(*map(packages, tree.values()))
    return set().union(*map(packages, tree)) if isinstance(tree, list) else set()


def rebuild(
    cfg: dict[str, Any], info: Info, allow: list[str], weights: Weights, device: torch.device
) -> tuple[FunctionalModel, Stack]:
    """The model as it was when it was saved, and the techniques.

    A technique's ``setup`` may have changed the model, so it is run again, on noise in the place of data. Those that
    change the loss are left out: what they set up, a teacher or a projector, takes part in training only.

    Raises:
        ValueError: the weights are not those of this model.
    """
    node = without_first_weights(cfg["model"])
    module = make_model(node, info, allow).to(device)
    techniques, _ = create_stack(cfg, allow)
    params: dict[str, Tensor] = {name: p.detach().clone() for name, p in module.named_parameters()}
    for i, technique in enumerate(techniques.values()):
        if defines(technique, "setup") and (defines(technique, "evaluate") or not defines(technique, "loss")):
            seed = fold(cfg["seed"], SETUP, i)
            reseed(seed)
            technique.check(info)
            params, _ = technique.setup(module, params, noise(info, device, cfg["batch_size"]), seed)
    model = FunctionalModel(module, DTYPES[cfg["precision"]["dtype"]], device.type)
    check_weights(model, module, weights)
    return model, techniques


def without_first_weights(node: dict[str, Any]) -> dict[str, Any]:
    """A model's node without what would fetch or read other weights: those that were saved take their place."""
    fetching = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "weights", "weights_backbone")
    node = {**node, "pretrained": False} if "pretrained" in node else dict(node)
    if isinstance(node.get("arguments"), dict):
        node["arguments"] = {key: value for key, value in node["arguments"].items() if key not in fetching}
    return node


def noise(info: Info, device: torch.device, size: int) -> dict[str, Tensor]:
    """A batch that looks like a normalised one."""
    if info.kind == "tokens":
        x = torch.randint(info.num_outputs, (size, *info.in_shape), device=device)
    else:
        x = torch.randn(size, *info.in_shape, device=device)
    if info.target == "values":
        return {"x": x, "y": torch.randn(size, info.num_outputs, device=device)}
    shape = (size, *(info.in_shape if info.target == "tokens" else ()))
    return {"x": x, "y": torch.randint(info.num_outputs, shape, device=device)}


def check_weights(model: FunctionalModel, module: nn.Module, weights: Weights) -> None:
    """Refuse weights that are missing or have another shape.

    Raises:
        ValueError: names the first one.
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


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with the preprocessing and the prediction of its run; what ``load`` returns.

    Attributes:
        cfg: configuration of the run.
        info: what its data were.
        objective: turns outputs into probabilities or values.
        model: the model as a function.
        forward: raw inputs (B, ...), as the run's data gave them, to outputs.
        dtype: type of raw inputs.
        device: where it computes.
    """

    cfg: dict[str, Any]
    info: Info
    objective: Any
    model: FunctionalModel
    forward: Any
    dtype: torch.dtype
    device: torch.device

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities; empty for values."""
        return self.info.classes

    @torch.no_grad()
    def predict(self, x: Any, batch_size: int | None = None) -> Tensor:
        """Class probabilities (N, K), or values, on the CPU.

        Args:
            x: raw inputs as tensor, array or list: uint8 images (N, H, W, C) or (N, C, H, W), or PIL images, which are
                converted and resized; features (N, D); tokens (N, L). One sample without N counts as N = 1.
            batch_size: samples a forward pass; by default that of the run's evaluation.

        Raises:
            ValueError: the shape or the type is none of these.
        """
        pieces = self.prepare(x).split(batch_size or self.cfg["eval_batch_size"])
        return torch.cat([self.objective.predict(self.forward(piece.to(self.device))).cpu() for piece in pieces])

    def prepare(self, x: Any) -> Tensor:
        """Inputs in the form in which the run's data gave them: images as (N, C, H, W)."""
        x = from_images(x, self.info.in_shape) if is_images(x) else x
        x = x if isinstance(x, Tensor) else torch.as_tensor(x)
        shape, allowed = self.info.in_shape, [self.info.in_shape]
        if self.info.kind == "image":
            channels, height, width = shape
            allowed = [(height, width, channels), shape, *([(height, width)] if channels == 1 else [])]
        for candidate in allowed:
            if tuple(x.shape) == candidate:
                x = x[None]
            if tuple(x.shape[1:]) == candidate:
                x = self._typed(x.permute(0, 3, 1, 2) if is_last(candidate, shape) else x.reshape(-1, *shape))
                return as_stored(x) if self.info.kind == "image" else x
        listed = " or ".join(f"(N, {', '.join(map(str, candidate))})" for candidate in allowed)
        raise ValueError(f"inputs have shape {tuple(x.shape)}; this model takes {listed}.")

    def _typed(self, x: Tensor) -> Tensor:
        if len(x) == 0:
            raise ValueError("there are no inputs: N is 0.")
        if not self.dtype.is_floating_point and x.is_floating_point():
            raise ValueError(
                f"inputs are {x.dtype}; this model takes raw {self.dtype} values, as the run's data gave them. "
                "Images are whole numbers of 0 to 255, not scaled."
            )
        if self.dtype == torch.uint8 and x.dtype != torch.uint8 and (x.min() < 0 or x.max() > 255):
            raise ValueError(f"inputs go from {x.min()} to {x.max()}; images are whole numbers of 0 to 255.")
        if self.info.kind == "tokens" and (x.min() < 0 or x.max() >= self.info.num_outputs):
            raise ValueError(f"inputs go from {x.min()} to {x.max()}; tokens are 0 to {self.info.num_outputs - 1}.")
        return x.to(self.dtype)


def as_stored(x: Tensor) -> Tensor:
    """Images (N, C, H, W) in the storage that a split gives them, (N, H, W, C): another one is rounded otherwise."""
    return x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def is_last(candidate: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the channels of an image stand last."""
    return len(candidate) == 3 and candidate == (*shape[1:], shape[0])


def is_images(x: Any) -> bool:
    """Whether ``x`` is an image of PIL or a list of them."""
    first = x[0] if isinstance(x, list | tuple) and x else x
    return type(first).__module__.startswith("PIL.")


def from_images(x: Any, shape: tuple[int, ...]) -> Tensor:
    """PIL images as (N, H, W, C) uint8: the shorter side scaled to fit (bilinear), the longer one cropped.

    Raises:
        ValueError: the model takes no images of one or three channels.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"inputs are images; this model takes (N, {', '.join(map(str, shape))}).")
    channels, height, width = shape
    arrays = []
    for image in x if isinstance(x, list | tuple) else [x]:
        image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
        scale = max(width / image.width, height / image.height)
        size = max(width, int(image.width * scale)), max(height, int(image.height * scale))
        image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        arrays.append(np.array(image.crop((left, top, left + width, top + height))).reshape(height, width, channels))
    return torch.from_numpy(np.stack(arrays))
