"""Frozen layers: the parameters that name patterns choose keep their values, by default all below the last layer.

Source: feature extraction as in Razavian et al., "CNN Features off-the-shelf", 2014, arXiv:1403.6382; batch norm as in
fastai (``train_bn``) and in ``torch.nn.Module.eval``.
Deviation: none; frozen parameters are constants to autograd, so the backward pass ends at the lowest trained layer.
Cost: none; a step becomes cheaper, and the optimiser keeps no tensors for frozen parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from mltricks.functional.depths import layers
from mltricks.optim.matching import check_patterns, matching
from mltricks.technique import Params, Technique

Norms = Literal["fixed", "adapt", "train"]
"""What normalisation layers do while they are frozen: ``fixed`` runs them in evaluation mode, ``adapt`` keeps their
scales and shifts only, and ``train`` does not freeze them at all."""


@dataclass(frozen=True)
class Freeze(Technique):
    """The chosen parameters are constants.

    Args:
        include: name patterns, or the words of ``mltricks.optim.matching``, of the parameters to freeze. Parameters
            that other techniques add, such as ``simclr/...``, are frozen by a pattern with a slash only.
        exclude: patterns of those to train nevertheless.
        norms: ``fixed``: a batch norm whose parameters are all frozen normalises with its stored statistics and keeps
            them; ``adapt``: it takes those of the batch and goes on to average them; ``train``: scales and shifts of
            all normalisation layers are trained, too.
    """

    include: Sequence[str]
    exclude: Sequence[str]
    norms: Norms

    @property
    def holds_statistics(self) -> bool:  # type: ignore[override]
        return self.norms == "fixed"

    def frozen(self, params: Params) -> Collection[str]:
        return chosen("technique.freeze", self.include, self.exclude, self.norms, params)


def chosen(key: str, include: Sequence[str], exclude: Sequence[str], norms: Norms, params: Params) -> set[str]:
    """The names of the parameters to freeze.

    Args:
        key: of the technique in the configuration, for messages.
        include, exclude, norms: as in ``Freeze``.
        params: all parameters by name.

    Raises:
        ValueError: a pattern matches nothing, or they choose no parameter or all.
    """
    check_patterns(f"{key}.include", include, params)
    check_patterns(f"{key}.exclude", exclude, params)
    own = {name for name in params if "/" not in name}
    added = [pattern for pattern in include if "/" in pattern]
    spared = matching([*exclude, *(["norm"] if norms == "train" else [])], params)
    found = (matching(include, params) & own | matching(added, params)) - spared
    given = f"{key}.include={'+'.join(include) or 'none'} {key}.exclude={'+'.join(exclude) or 'none'}"
    if not found:
        raise ValueError(
            f"{given} freezes nothing, so it has no effect. The layers are {', '.join(layers(params))}. "
            f"Type patterns of their parameters, or leave {key.removeprefix('technique.')} out."
        )
    if found == params.keys():
        raise ValueError(
            f"{given} leaves nothing to train. The layers are {', '.join(layers(params))}. "
            f"Type {key}.exclude=last_layer, or patterns of what to train."
        )
    return found
