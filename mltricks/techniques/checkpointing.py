"""Activation checkpointing: save memory by computing activations a second time, in the backward pass.

Source: Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174, section 4.1;
``torch.utils.checkpoint`` without re-entrance.
Gradients are equal bit for bit: the second pass draws the same random numbers, and leaves the statistics of batch norm
alone. Only the inputs of blocks stay in memory from the forward to the backward pass.
Cost: one more forward pass of the blocks; a copy of their buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mltricks.batch import Batch
from mltricks.functional.layers import Layers, matching_layers
from mltricks.functional.recompute import recompute
from mltricks.technique import Own, Params, Technique

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Checkpointing(Technique):
    """Keep the inputs of blocks alone, and compute the rest again when the gradient needs it.

    Args:
        layers: patterns of the names of the modules that are blocks; ``None`` for those that ``blocks`` finds.
    """

    layers: Sequence[str] | None

    traceable: ClassVar[bool] = False

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        for name, block in chosen_blocks(model, self.layers).items():
            if "forward" in vars(block):
                raise ValueError(
                    f"technique=checkpointing replaces the forward pass of {name}, and something else did so before. "
                    "Name other modules in technique.checkpointing.layers."
                )
            recompute(block, type(block).forward)
        return params, {}


def chosen_blocks(model: nn.Module, patterns: Sequence[str] | None) -> Layers:
    """The modules that are computed again, by name; none is a part of another.

    Raises:
        ValueError: there are fewer than two blocks, a pattern matches no module, or matches a part of another match.
    """
    key = "technique.checkpointing.layers"
    modules = {name: module for name, module in model.named_modules() if name}
    if patterns is not None:
        found = matching_layers(modules, patterns, key, "Modules")
        for name in found:
            for outer in found:
                if name.startswith(f"{outer}."):
                    raise ValueError(f"{key}={list(patterns)}: {name} is a part of {outer}. Name one of them.")
        return found
    found = blocks(model)
    if len(found) < 2:
        raise ValueError(
            f"technique=checkpointing saves memory in models of several blocks, and {type(model).__name__} has "
            f"{len(found)}. Name modules in {key}, or leave checkpointing out."
        )
    return found


def blocks(model: nn.Module, prefix: str = "") -> Layers:
    """The blocks of a model: the modules with parts of their own, at its top or in containers of several such modules.

    >>> layer = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> list(blocks(nn.Sequential(layer(), nn.Sequential(layer(), layer()), nn.Linear(2, 2))))
    ['0', '1.0', '1.1']
    """
    found: Layers = {}
    for name, part in model.named_children():
        if not is_compound(part):
            continue
        inner = any(isinstance(m, CONTAINERS) and sum(map(is_compound, m.children())) > 1 for m in part.modules())
        found |= blocks(part, f"{prefix}{name}.") if inner else {f"{prefix}{name}": part}
    return found


def is_compound(module: nn.Module) -> bool:
    """Whether a module has parts of its own and parameters."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())
