"""The features of a model: the input of its last linear layer, or of a named module, one vector a sample.

They are those of the weights that predict, such as an average, in evaluation mode, of inputs without augmentation.
Where the module receives more than one vector a sample, its features are the mean over the positions: (B, C, H, W) to
(B, C), and (B, L, D) to (B, D).
Legend: B batch, N samples, D features, C channels, H height, W width, L positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.build import Run
from mltricks.config.values import suggest
from mltricks.data.info import Info
from mltricks.data.splits import Split
from mltricks.functional.last_linear import linear_layers
from mltricks.functional_model import FunctionalModel
from mltricks.predicting import sets_of_weights
from mltricks.state import State, leaves
from mltricks.technique import Params
from mltricks.weights import BUFFER, PARAM, RAW, Weights

Encode = Callable[[Any], Tensor]
"""Maps raw inputs (B, ...) to features (B, D) float32."""
SEVERAL = (
    "this run predicts with several sets of weights, and features are those of one. Leave out technique=snapshot, or "
    "give another run."
)


@dataclass(frozen=True)
class Samples:
    """Samples as features.

    Attributes:
        x: (N, D) float32.
        y: targets (N, ...), on the same device.
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Encoder:
    """The features of raw inputs.

    Attributes:
        model: as a function.
        params, buffers: that predict.
        normalize: maps raw inputs to the model's inputs.
        layer: name of the module whose input is taken.
    """

    model: FunctionalModel
    params: Params
    buffers: Params
    normalize: Callable[[Any], Any]
    layer: str

    @torch.no_grad()
    def __call__(self, x: Any) -> Tensor:
        """Map raw inputs (B, ...) to features (B, D) float32.

        Raises:
            ValueError: the module does not receive one tensor, once, with a row for every sample.
        """
        x, seen = self.normalize(x), []
        module = self.model.module.get_submodule(self.layer)
        hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] if inputs else None))
        try:
            self.model(self.params, self.buffers, x, train=False)
        finally:
            hook.remove()
        size = len(next(iter(leaves(x))))
        if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim < 2 or len(seen[0]) != size:
            what = f"is called {len(seen)} times in one pass" if len(seen) != 1 else "receives no tensor of all samples"
            raise ValueError(
                f"layer={self.layer} {what}, so its input is no feature vector of a sample. Type layer=NAME with "
                f"another module of {type(self.model.module).__name__}."
            )
        return pooled(seen[0].float())


def pooled(t: Tensor) -> Tensor:
    """The mean over the positions: (B, L, D) to (B, D), (B, C, H, W) to (B, C).

    >>> pooled(torch.arange(8.0).view(1, 2, 2, 2)), pooled(torch.arange(4.0).view(1, 2, 2))
    (tensor([[1.5000, 5.5000]]), tensor([[1., 2.]]))
    """
    return t.mean(1) if t.ndim == 3 else t.flatten(2).mean(2) if t.ndim > 3 else t


def layer_of(module: nn.Module, wanted: str | None) -> str:
    """The name of the module whose input is the features.

    Args:
        module: the model.
        wanted: its name; ``None`` for the last linear layer.

    Raises:
        ValueError: the model has no module of this name, or no linear layer.
    """
    names, linear = [name for name, _ in module.named_modules() if name], linear_layers(module)
    if wanted is None and not linear:
        raise ValueError(
            f"the features are the input of the last linear layer, and {type(module).__name__} has none. Type "
            f"layer=NAME with one of its modules, of a run that job=knn or job=probe loads: {', '.join(names)}."
        )
    if wanted is not None and wanted not in names:
        raise ValueError(f"layer={wanted} is no module of {type(module).__name__}. {suggest(wanted, names)}")
    return linear[-1] if wanted is None else wanted


def of_state(run: Run, state: State) -> Encoder:
    """The encoder with the weights that a state predicts with.

    Raises:
        ValueError: it predicts with several sets of weights, or the model has no linear layer.
    """
    (params, buffers), *others = sets_of_weights(run, state)
    named = [[*(p[n] for n, _ in run.model.params), *b.values()] for p, b in [(params, buffers), *others]]
    if any(not (a is b or torch.equal(a, b)) for other in named for a, b in zip(named[0], other, strict=True)):
        raise ValueError(SEVERAL)
    return Encoder(run.model, params, buffers, run.data.info.normalize, layer_of(run.model.module, None))


def of_weights(
    model: FunctionalModel, weights: Weights, info: Info, device: torch.device, layer: str | None = None
) -> Encoder:
    """The encoder with weights as ``best.safetensors`` has them.

    Args:
        model: as a function.
        weights: by name.
        info: describes the data that the model was trained on.
        device: to compute on.
        layer: name of the module whose input is taken; ``None`` for the last linear layer.

    Raises:
        ValueError: they are several sets of weights, or the model has no such module.
    """
    if any(name.startswith(RAW) for name in weights):
        raise ValueError(SEVERAL)
    params, buffers = (
        {name: weights[prefix + name].to(device) for name, _ in places}
        for prefix, places in ((PARAM, model.params), (BUFFER, model.buffers))
    )
    return Encoder(model, params, buffers, info.normalize, layer_of(model.module, layer))


def encoded(encode: Encode, split: Split, batch_size: int, positions: Tensor | None = None) -> Samples:
    """The features of a split, in order.

    Args:
        encode: the encoder.
        split: the samples.
        batch_size: samples of a forward pass.
        positions: of the samples to take, int64 on the CPU; ``None`` for all.
    """
    positions = torch.arange(len(split)) if positions is None else positions
    parts = [(encode(batch["x"]), batch["y"]) for batch in split.batches(positions.split(batch_size))]
    return Samples(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))
