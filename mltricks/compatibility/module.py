"""Whether a model fits the batches, the objective and the techniques."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mltricks.config.options import option_of
from mltricks.data.info import Info
from mltricks.data.source import Source
from mltricks.functional.ghost_norm import GhostBatchNorm, check_splits
from mltricks.process.atomic import first_line
from mltricks.shapes import Shapes
from mltricks.step import Techniques


def check_module(
    module: nn.Module, source: Source, info: Info, objective: Any, techniques: Techniques, shapes: Shapes | None
) -> None:
    """Refuse a model that does not fit the batches, the objective or the techniques.

    Args:
        module: the model.
        source: of the batches.
        info: describes the data.
        objective, techniques: of the run.
        shapes: of samples that change their shape; ``None`` if they do not.

    Raises:
        ValueError: names what does not fit, and what to type instead.
    """
    check_batches(source, module, techniques)
    check_one_output(techniques, module, info, objective)
    check_shapes(shapes, module, info, objective)


def check_shapes(shapes: Shapes | None, module: nn.Module, info: Info, objective: Any) -> None:
    """Refuse a model of fixed input size if a technique changes the shape of samples."""
    if shapes is None:
        return
    for _, shape in shapes.table:
        there, problem = info.reshaped(shape), ""
        try:
            with torch.no_grad():
                objective.check_outputs(module.eval()(there.input.zeros(2)), 2, there)
        except Exception as error:  # a model may raise anything
            problem = first_line(error)
        module.train()
        if problem:
            raise ValueError(
                f"technique={shapes.name} trains on samples of shape {shape}, and model={option_of('model', module)} "
                f"cannot take them: {problem}. Type a model for any size, such as model=convnet model.head_pool=mean "
                f"for images, or leave {shapes.name} out."
            )


def check_one_output(techniques: Techniques, module: nn.Module, info: Info, objective: Any) -> None:
    """Refuse a technique that works on a single output tensor if the model returns several."""
    needing = [name for name, technique in techniques.items() if technique.needs_one_output]
    if not needing or objective.output_shape(info) is not None:  # ``output_shape`` describes a single tensor
        return
    with torch.no_grad():
        outputs = module.eval()(info.input.zeros(2))
    module.train()
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"technique={needing[0]} works on outputs that are one tensor, and model={option_of('model', module)} "
            f"gives a {type(outputs).__name__} of them. Leave {needing[0]} out."
        )


def check_batches(source: Source, module: nn.Module, techniques: Techniques) -> None:
    """Refuse batches of one sample if a layer or a loss compares samples, or a technique mixes them."""
    if source.smallest_batch > 1:
        return
    if source.batch_size == 1 and (mixing := [name for name, t in techniques.items() if t.mixes]):
        raise ValueError(
            f"technique={mixing[0]} mixes the samples of a batch, so it has no effect with batch_size=1. Type another "
            f"batch_size, or leave {mixing[0]} out."
        )
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    losses = [f"technique={name}" for name, t in techniques.items() if t.needs_whole_batch]
    for who in [*(["the model's batch norm"] if norms else []), *losses]:
        raise ValueError(
            f"{who} cannot work on a batch of one sample, and batch_size={source.batch_size} makes one. "
            f"Type another batch_size{'' if source.batch_size == 1 else ', or data.drop_last=true'}."
        )


def check_ghosts(source: Source, module: nn.Module) -> None:
    """Refuse batches, or a smaller last batch, that ghost batch norms of the model cannot split evenly."""
    for norm in module.modules():
        if isinstance(norm, GhostBatchNorm):
            for size in (source.batch_size, source.smallest_batch):
                check_splits(norm.key, norm.splits, size)
