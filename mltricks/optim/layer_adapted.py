"""Optimisers whose step in every matrix is proportional to the norm of the matrix; vectors are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mltricks.config.options import option_of
from mltricks.functional import foreach
from mltricks.optim.base import Opt, Optimizer
from mltricks.optim.kernels import InPlace
from mltricks.optim.matching import check_patterns, matching
from mltricks.technique import Params, bind


@dataclass(frozen=True)
class LayerAdapted(InPlace):
    """The base class: parameters with and without the ratio of norms.

    Args:
        excluded: patterns of parameters without ratio and without weight decay.
    """

    excluded: Sequence[str]

    adapts: ClassVar[bool] = True
    """Whether the rule scales by the ratio of norms."""

    def init(self, params: Params) -> Opt:
        """The initial tensors.

        Raises:
            ValueError: a pattern matches no parameter, or all parameters are excluded.
        """
        check_patterns("optim.excluded", self.excluded, params)
        if not self.choose(params)[0]:
            raise ValueError(
                f"optim={option_of('optim', self)} adapts no parameter: optim.excluded={'+'.join(self.excluded)} "
                "takes all there are. Type optim.excluded=none."
            )
        return super().init(params)

    def choose(self, params: Params) -> list[list[str]]:
        excluded = matching(self.excluded, params)
        return [[name for name in params if name not in excluded], [name for name in params if name in excluded]]

    def rules(self) -> Sequence[Optimizer]:
        return self, bind(self, {"adapts": False, "weight_decay": 0.0})


def ratios(above: Tensor, below: Tensor, directions: Tensor) -> list[Tensor]:
    """above / below for every tensor of a list, and 1 where the weight or its direction is zero.

    Args:
        above, below: (N,), numerators (0 where a weight is zero) and denominators.
        directions: (N,), norms of the directions.

    >>> ratios(torch.tensor([2.0, 0.0, 2.0]), torch.tensor([4.0, 4.0, 0.0]), torch.tensor([4.0, 4.0, 0.0]))
    [tensor(0.5000), tensor(1.), tensor(1.)]
    """
    return list(torch.where((above > 0) & (directions > 0), above / below, 1.0).unbind())


def scaled(tensors: list[Tensor], factors: list[Tensor]) -> list[Tensor]:
    """Every tensor times its own factor, 0-d."""
    return foreach.mul(tensors, [f.to(t.dtype) for t, f in zip(tensors, factors, strict=True)])
