"""Frozen parameters, and the normalisation layers that freeze with them."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from mltricks.config.values import suggest
from mltricks.step import Techniques
from mltricks.technique import Params


def frozen_names(techniques: Techniques, params: Params, constants: Collection[str] = ()) -> frozenset[str]:
    """The parameters that any technique freezes, and those that the module itself does not train.

    Args:
        techniques: of the run.
        params: all parameters by name.
        constants: those whose ``requires_grad`` is false in the module.

    Raises:
        ValueError: no parameter is left to train, or a technique names an unknown one.
    """
    found = set(constants)
    if found == params.keys():
        raise ValueError("the model leaves nothing to train: requires_grad is false for all its parameters.")
    for name, technique in techniques.items():
        own = set(technique.frozen(params))
        for strange in sorted(own - params.keys()):
            raise ValueError(f"technique={name} freezes {strange}, which is no parameter. {suggest(strange, params)}")
        found |= own
        if found == params.keys():
            raise ValueError(f"technique={name} leaves nothing to train: all parameters are frozen. Freeze fewer.")
    return frozenset(found)


def still_norms(module: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """The normalisation layers with all parameters frozen; evaluation mode keeps their statistics fixed.

    One without parameters follows those that the module registers before it.
    """
    still: list[nn.Module] = []
    last: list[str] = []
    for prefix, part in module.named_modules():
        last = [name for name, _ in part.named_parameters(prefix, recurse=False)] or last
        if isinstance(part, nn.modules.batchnorm._NormBase) and last and set(last) <= set(frozen):
            still.append(part)
    return still


def holding(techniques: Techniques) -> Techniques:
    """The techniques that also keep the statistics of the normalisation layers whose parameters they freeze."""
    return {name: technique for name, technique in techniques.items() if technique.holds_statistics}
