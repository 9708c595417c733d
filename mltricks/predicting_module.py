"""A trained model as an ordinary ``torch.nn.Module``: raw inputs in, logits or values out.

Legend: B batch.
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.data.info import Info
from mltricks.functional_model import FunctionalModel
from mltricks.inputs.base import Input, Raw
from mltricks.state import map_state
from mltricks.step import Techniques, onion
from mltricks.technique import Ctx, Params, defines
from mltricks.weights import BUFFER, PARAM, RAW, Weights, looked_up


class Normalize(nn.Module):
    """The preprocessing of an input kind; its statistics are buffers, so they move and are saved with the module.

    Args:
        kind: the input kind.
    """

    def __init__(self, kind: Input):
        super().__init__()
        self.kind = kind
        for field in fields(kind):  # type: ignore[arg-type]
            value = getattr(kind, field.name)
            if isinstance(value, Tensor):
                self.register_buffer(field.name, value.clone())
            elif isinstance(value, Input):
                self.add_module(field.name, Normalize(value))

    def current(self) -> Input:
        """The kind with the statistics that the buffers hold now."""
        parts = {name: part.current() for name, part in self.named_children() if isinstance(part, Normalize)}
        return replace(self.kind, **dict(self.named_buffers(recurse=False)), **parts)  # type: ignore[type-var]

    def forward(self, x: Raw) -> Raw:
        kind = self.current()
        return kind.normalize(kind.laid_out(x))


class PredictingModule(nn.Module):
    """Map raw inputs (B, ...), as the run's data have them, to outputs (B, ...).

    In evaluation mode it computes what ``mltricks.load(DIR).predict`` does before the softmax, including test-time
    augmentation and autocast; in training mode it is ``network`` after ``normalize``, for further training.

    Attributes:
        normalize: raw inputs to the network's inputs.
        network: the bare network with the weights that predict; its ``state_dict`` loads into the model's own class.
    """

    def __init__(
        self,
        normalize: Normalize,
        network: nn.Module,
        dtype: torch.dtype | None,
        techniques: Techniques,
        own: dict[str, Any],
        num_outputs: int,
    ):
        super().__init__()
        self.normalize, self.network, self._dtype = normalize, network, dtype
        self._techniques, self._own, self._num_outputs = techniques, own, num_outputs

    def forward(self, x: Raw) -> Any:
        x = self.normalize(x)
        return self._run(x) if self.training else self._predict(x)

    def _run(self, x: Any) -> Any:
        if self._dtype is None:
            return self.network(x)
        device = next(self.parameters()).device.type
        with torch.autocast(device, self._dtype, cache_enabled=False):
            return map_state(Tensor.float, self.network(x))

    def _predict(self, x: Any) -> Any:
        """The prediction through the techniques' ``evaluate``; averages have been applied to the weights already."""

        def innermost(params: Params, x: Tensor, ctx: Ctx) -> Any:
            return self._run(x)

        own = map_state(lambda t: t.to(next(self.parameters()).device), self._own)
        ctx = Ctx(None, {}, own, torch.zeros(()), 1.0, self._num_outputs, train=False)  # type: ignore[arg-type]
        return onion(self._techniques, "evaluate", innermost)({}, x, ctx)


def as_module(
    model: FunctionalModel,
    techniques: Techniques,
    info: Info,
    weights: Weights,
    own: dict[str, Any],
    device: torch.device,
) -> PredictingModule:
    """The module of a run, in evaluation mode.

    Args:
        model: the rebuilt model.
        techniques: of the run.
        info: describes the data.
        weights: those that predict, by name.
        own: names of the techniques' own tensors among them.
        device: of the result.

    Raises:
        ValueError: the prediction takes more than one set of weights.
    """
    if any(name.startswith(RAW) for name in weights):
        raise ValueError(
            "this run predicts with several sets of weights, and one module holds one. "
            "Predict with mltricks.load(DIR).predict(x)."
        )
    network = copy.deepcopy(model.module)
    with torch.no_grad():
        for kind, places in ((PARAM, network.named_parameters()), (BUFFER, network.named_buffers())):
            for name, tensor in places:
                tensor.copy_(weights[kind + name])
    shaping = {name: t for name, t in techniques.items() if defines(t, "evaluate")}
    held = looked_up(own, weights)
    made = PredictingModule(Normalize(info.input), network, model.dtype, shaping, held, info.num_outputs)
    return made.to(device).eval()
