"""A step without configuration: any module, any batches, the techniques as objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.functional_model import FunctionalModel
from mltricks.objectives.classify import Classify
from mltricks.optim.sgd import SGD
from mltricks.state import State
from mltricks.step import build_step
from mltricks.technique import Ctx, Technique, floats_of

CLASSES = 4


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> SGD:
    return SGD(lr=lr, weight_decay=weight_decay, no_decay=[], groups=None, momentum=momentum, nesterov=False)


def images(count: int, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> Batch:
    """Random images with a class each."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=generator)
    return {"x": torch.randn(count, *shape, generator=generator), "y": y}


def small_net(norm: bool = False, seed: int = 0) -> nn.Sequential:
    """A convolution, batch norm if asked for, and two linear layers, for 1x8x8 images."""
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(3)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), *norms, nn.ReLU(), nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.Linear(8, CLASSES)
    )


def params_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def context(module: nn.Module, own: dict[str, Any] | None = None) -> Ctx:
    """The context that a verb receives at the first step."""
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    return Ctx(FunctionalModel(module), buffers, own or {}, torch.zeros((), dtype=torch.int64), 0.0, CLASSES)


def train(
    module: nn.Module, batches: Sequence[Batch], optim: Any, objective: Any = None, **techniques: Technique
) -> list[tuple[State, dict[str, Tensor]]]:
    """Train; return the state and the metrics of every step."""
    params, own = params_of(module), {}
    for name, technique in techniques.items():
        params, own[name] = technique.setup(module, params, batches[0], 0)
    step = build_step(FunctionalModel(module), objective or Classify(), techniques, optim, lambda x: x, CLASSES)
    state: State = {"params": params, "buffers": {n: b.clone() for n, b in module.named_buffers()}}
    state |= {"opt": optim.init(params), "own": own, "step": torch.zeros((), dtype=torch.int64)}
    hyper = {"progress": 0.0, "optim": floats_of(optim)}
    history = []
    for batch in batches:
        state, metrics = step(state, batch, hyper)
        history.append((state, metrics))
    return history
