"""The residual branches of a model, ours or one of torchvision, timm and torch."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

PLACES = ("drop_path", "drop_path1", "drop_path2", "stochastic_depth")
"""Attributes of timm's and torchvision's stochastic-depth module at the end of a branch; an identity if it is off."""

BRANCHES = {
    "EncoderBlock": ("dropout", "mlp"),
    "TransformerEncoderLayer": ("dropout1", "dropout2"),
    "ResBottleneckBlock": ("f",),
}
"""The modules that end a residual branch, by their owner's class: torchvision's ViT, torch's encoder, RegNet."""


def branch_ends(model: nn.Module) -> list[nn.Module]:
    """The modules that end a residual branch, in the order of ``model.modules()``; an empty list for none."""
    found = {id(branch) for owner in model.modules() for branch in ends_in(owner)}
    return [module for module in model.modules() if id(module) in found]


def ends_in(owner: nn.Module) -> Iterator[nn.Module]:
    """The modules that end the residual branches of one block."""
    if not has_shortcut(owner):
        return
    kind = type(owner).__name__
    for name in getattr(owner, "residual_branches", BRANCHES.get(kind, ())):
        yield owner.get_submodule(name)
    places = [place for name in PLACES if isinstance(place := getattr(owner, name, None), nn.Module)]
    yield from places
    if not places and kind in ("BasicBlock", "Bottleneck") and hasattr(owner, "bn2"):
        ends = [getattr(owner, name, None) for name in ("se", "bn3", "bn2")]
        yield next(end for end in ends if isinstance(end, nn.Module))
    inverted = {"InvertedResidual": ("conv", "block"), "_InvertedResidual": ("layers",)}.get(kind, ())
    if not places and (hasattr(owner, "use_res_connect") or hasattr(owner, "apply_residual")):
        yield from (owner.get_submodule(name) for name in inverted if hasattr(owner, name))


def has_shortcut(owner: nn.Module) -> bool:
    """Whether a block's flags, if it has any, say that it adds its input."""
    return all(getattr(owner, flag, True) for flag in ("use_res_connect", "apply_residual", "has_skip"))


def own_depths(model: nn.Module) -> list[nn.Module]:
    """The stochastic-depth modules that a model brings along."""
    owners = (owner for owner in model.modules() if has_shortcut(owner))
    return [place for o in owners for name in PLACES if isinstance(place := getattr(o, name, None), nn.Module)]
