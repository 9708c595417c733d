"""Self-paced: train on the samples whose loss is low at present, and on more of them from epoch to epoch.

Source: Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models", 2010, algorithm 1: samples count whose
loss is below a threshold that leaves half of them in at first and grows by a factor.
Deviation: the number of samples is given, not the threshold: the lowest losses of a share that grows by ``growth`` from
epoch to epoch. A sample that is left out keeps the loss that it had when it was last drawn, where the source measures
all losses again. The first epoch trains on all samples once, to have these losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from mltricks.config.values import Fraction, Range, check_fields
from mltricks.data.splits import Split
from mltricks.samplers.pool import drawn_from, last_losses, ranked
from mltricks.samplers.weighted import class_labels


@dataclass(frozen=True)
class SelfPaced:
    """Draw from the share start growth^(epoch - 1) of lowest losses; an epoch has as many updates as ever.

    Args:
        start: share of the samples in the second epoch, in (0, 1]; 1 is ``shuffle``.
        growth: factor of the share from epoch to epoch, >= 1.
        balanced: choose within every class; otherwise a hard class may be left out for long.
    """

    start: Fraction
    growth: Annotated[float, Range(1.0)]
    balanced: bool

    def __post_init__(self) -> None:
        check_fields(self, "sampler.")

    def setup(self, split: Split) -> dict[str, Tensor]:
        return {"loss": torch.full((len(split),), -math.inf)}

    def learn(self, own: dict[str, Tensor], index: Tensor, losses: Tensor) -> dict[str, Tensor]:
        return {"loss": last_losses(own["loss"], index, losses)}

    def order(self, split: Split, seed: int, epoch: int, batch_size: int, own: dict[str, Tensor]) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        count = len(split)
        size = min(count, max(batch_size, math.ceil(self.share(epoch) * count - 1e-9)))
        labels = class_labels(split, "self_paced", "sampler.balanced=false") if self.balanced else None
        return drawn_from(ranked(own["loss"], 0, labels), [size] * -(-count // batch_size), batch_size, seed)

    def share(self, epoch: int) -> float:
        """The share of the samples that an epoch draws from."""
        if epoch == 0 or self.start == 1.0:
            return 1.0
        return math.exp(min(0.0, math.log(self.start) + (epoch - 1) * math.log(self.growth)))
