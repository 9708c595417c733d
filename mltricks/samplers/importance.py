"""Importance sampling: draw samples in proportion to their loss, and weigh the losses so that the gradient is unbiased.

Source: Zhao and Zhang, "Stochastic Optimization with Importance Sampling for Regularized Loss Minimization", 2015,
arXiv:1401.2753, section 3: draws with probability p_i and weights 1 / (N p_i). The loss in place of the norm of the
gradient: Katharopoulos and Fleuret, "Not All Samples Are Created Equal", 2018, arXiv:1803.00942, section 3.2; weights
to a power below 1: Schaul et al., "Prioritized Experience Replay", 2016, arXiv:1511.05952, section 3.4.
Deviation: the loss of a sample is the one that it had when it was last drawn, as in Schaul et al.; Katharopoulos and
Fleuret score a larger uniform sample before every update. A share of all draws is uniform, which limits the weights.
Cost: the losses of the batch are weighed; training metrics are those of the samples drawn, hence of harder ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mltricks.config.values import Fraction, Probability, check_fields
from mltricks.data.splits import Split
from mltricks.samplers.pool import last_losses

LEAST = 1e-6
"""Added to every loss, so that losses of zero have a sum to be divided by."""


@dataclass(frozen=True)
class Importance:
    """Draw with replacement, p_i = (1 - uniform_frac) loss_i / (sum of losses) + uniform_frac / N.

    Args:
        uniform_frac: share of the draws that are uniform, in (0, 1]; no weight is above its reciprocal.
        correction: power of the weights 1 / (N p_i), in [0, 1]: 1 is unbiased, 0 leaves the losses as they are.
    """

    uniform_frac: Fraction
    correction: Probability

    def __post_init__(self) -> None:
        check_fields(self, "sampler.")

    def setup(self, split: Split) -> dict[str, Tensor]:
        return {"loss": torch.full((len(split),), -1.0)}  # below 0: not drawn yet

    def learn(self, own: dict[str, Tensor], index: Tensor, losses: Tensor) -> dict[str, Tensor]:
        return {"loss": last_losses(own["loss"], index, losses)}

    def order(self, split: Split, seed: int, own: dict[str, Tensor]) -> Tensor:
        """The positions of one epoch, (N,) int64, drawn with replacement."""
        generator = torch.Generator().manual_seed(seed)
        return torch.multinomial(self.probabilities(own), len(split), replacement=True, generator=generator)

    def weights(self, own: dict[str, Tensor]) -> Tensor:
        """What the loss of every sample is multiplied by in an epoch with these draws, (N,) float32."""
        p = self.probabilities(own)
        return (len(p) * p).pow(-self.correction).float()

    def probabilities(self, own: dict[str, Tensor]) -> Tensor:
        """The probability of every sample in a draw, (N,) float64; one without a loss yet counts with the mean loss."""
        losses = own["loss"].double()
        known = losses >= 0
        mean = losses[known].mean() if bool(known.any()) else losses.new_tensor(1.0)
        scores = torch.where(known, losses, mean) + LEAST
        return (1 - self.uniform_frac) * scores / scores.sum() + self.uniform_frac / len(losses)
