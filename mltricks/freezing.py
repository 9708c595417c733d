"""Parameters that never move, and the layers that stand still with them."""

from __future__ import annotations

from torch import nn

from mltricks.config.values import suggest
from mltricks.step import Techniques
from mltricks.technique import Params


def frozen_names(techniques: Techniques, params: Params) -> frozenset[str]:
    """The parameters that any technique freezes.

    Raises:
        ValueError: nothing is left to train, or there is no such parameter.
    """
    found: set[str] = set()
    for name, technique in techniques.items():
        own = set(technique.frozen(params))
        for strange in sorted(own - params.keys()):
            raise ValueError(f"technique={name} freezes {strange}, which is no parameter. {suggest(strange, params)}")
        found |= own
        if found == params.keys():
            raise ValueError(f"technique={name} leaves nothing to train: all parameters are frozen. Freeze fewer.")
    return frozenset(found)


def still_norms(module: nn.Module, frozen: frozenset[str]) -> list[nn.Module]:
    """The normalisation layers whose parameters are all frozen: in training mode their statistics would drift."""
    still: list[nn.Module] = []
    for prefix, part in module.named_modules():
        own = [name for name, _ in part.named_parameters(prefix, recurse=False)]
        if isinstance(part, nn.modules.batchnorm._NormBase) and own and frozen.issuperset(own):
            still.append(part)
    return still
