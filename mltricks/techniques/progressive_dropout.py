"""Progressive dropout: dropout whose rate grows from 0 in the course of the run.

Source: Morerio, Cavazza, Volpi, Vidal, Murino, "Curriculum Dropout", 2017, arXiv:1703.06229, equation 5 with
gamma = 10 / T for T updates.
Deviation: by default only before the last linear layer, as ``technique=dropout``; the source also drops inputs and the
outputs of convolutions, at lower rates, which ``layers`` can name.
Cost: one random tensor and one product per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mltricks.config.values import Positive
from mltricks.technique import Ctx
from mltricks.techniques.dropout import Dropout


@dataclass(frozen=True)
class ProgressiveDropout(Dropout):
    """Dropout at the rate p (1 - exp(-gamma progress)), with the progress in [0, 1).

    The source writes it for the probability to keep an element: (1 - theta) exp(-gamma t / T) + theta, theta = 1 - p.

    Args:
        p: probability of zeroing an element at the end of the run, in [0, 1).
        layers: patterns of the names of linear layers and convolutions; ``None`` for the last linear layer.
        gamma: speed of the growth, > 0.
    """

    gamma: Positive

    name: ClassVar[str] = "progressive_dropout"

    def rate(self, ctx: Ctx) -> float | Tensor:
        decay = torch.ones((), device=ctx.step.device) * self.gamma * ctx.progress
        return self.p * -torch.expm1(-decay)
