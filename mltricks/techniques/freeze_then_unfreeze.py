"""Freeze, then unfreeze: the last layer learns alone for a share of the run, then all layers learn.

Source: fastai's ``fine_tune`` (Howard and Gugger, "fastai: A Layered API for Deep Learning", 2020, arXiv:2002.04688):
an epoch with all but the last group frozen, then all groups, while norms are trained throughout.
Deviation: the source halves the learning rate at unfreezing and restarts its cycle; here ``scheduler`` drives the rate
of the whole run, and two stages (``technique=freeze``, then none) can have a schedule each. As to the optimiser's
tensors, see ``gradual_unfreezing``.
Cost: that of ``gradual_unfreezing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import Decay
from mltricks.technique import Ctx, Params
from mltricks.techniques.freeze import chosen
from mltricks.techniques.gradual_unfreezing import Unfreezing


@dataclass(frozen=True)
class FreezeThenUnfreeze(Unfreezing):
    """The chosen parameters are frozen while the progress of the run is below ``frozen_frac``.

    Args:
        frozen_frac: share of the run during which they are frozen, in [0, 1).
        include, exclude: patterns of their names, as in ``technique=freeze``.
        norms: as in ``Unfreezing``.
    """

    frozen_frac: Decay
    include: Sequence[str]
    exclude: Sequence[str]

    def levels(self, params: Params) -> Mapping[str, int]:
        key = "technique.freeze_then_unfreeze"
        return dict.fromkeys(chosen(key, self.include, self.exclude, self.norms, params), 1)

    def is_frozen(self, level: Tensor, ctx: Ctx) -> Tensor:
        return torch.ones_like(level) * ctx.progress < self.frozen_frac
