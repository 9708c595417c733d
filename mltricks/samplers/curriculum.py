"""Curriculum: train on the easy samples first, and on all of them later.

Source: Bengio, Louradour, Collobert, Weston, "Curriculum Learning", 2009; the pacing functions, and harder samples
first (anti-curriculum) and a random ranking as controls: Wu, Dyer, Neyshabur, "When Do Curricula Work?", 2021,
arXiv:2012.03107, section 2 and its code; survey: Soviany et al., 2022, arXiv:2101.10382.
Deviation: within the pool every sample is drawn equally often, where the source draws with replacement, so that a pool
of all samples is ``shuffle``. The difficulty may also be the last loss of every sample in this run: then the first
epoch trains on all samples once, to have these losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mltricks.config.values import Fraction, check_fields
from mltricks.data.splits import Split
from mltricks.samplers.difficulty import scores_in, teacher_losses
from mltricks.samplers.pool import drawn_from, last_losses, ranked
from mltricks.samplers.weighted import class_labels

RATE = 10.0
"""The source's rate of the exponential and logarithmic pacings."""
PACINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "quadratic": lambda u: u**2,
    "root": lambda u: u**0.5,
    "step": lambda u: float(math.floor(u)),
    "exponential": lambda u: (math.exp(RATE * u) - 1.0) / (math.exp(RATE) - 1.0),
    "logarithmic": lambda u: 1.0 + math.log(u + math.exp(-RATE)) / RATE,
}
"""The share of the way from the first pool to all samples, as a function of the share u of the growth that is over."""


@dataclass(frozen=True)
class Curriculum:
    """Draw from the first share g = start + (1 - start) f(t / full_at) of a ranking, with t the progress of the run.

    An epoch has as many updates as without a curriculum, whatever the size of the pool.

    Args:
        pacing: f, by its name in the source.
        start: share of the samples in the first pool (the source's b), in (0, 1]; 1 is ``shuffle``.
        full_at: share of the run after which all samples are in the pool (the source's a), in (0, 1].
        ranking: ``easy`` first, ``hard`` first or ``random``, both controls; the random one is that of no seed.
        balanced: rank within every class, so that each pool has all classes, as the source does.
        scores: file with the difficulty of every training sample, ``.npy`` or one number a line; ``None`` for another.
        teacher: output folder of a run, whose loss is the difficulty. Without either, this run's last loss is.
        allow_modules: packages that the teacher's ``_target_`` may name besides mltricks and torch.

    Raises:
        ValueError: two sources of difficulty, or one that a random ranking would ignore.
    """

    pacing: Literal["linear", "quadratic", "root", "step", "exponential", "logarithmic"]
    start: Fraction
    full_at: Fraction
    ranking: Literal["easy", "hard", "random"]
    balanced: bool
    scores: str | None
    teacher: str | None
    allow_modules: Sequence[str]
    fixed: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The difficulty of every sample, once it has been read: (N,) float."""

    def __post_init__(self) -> None:
        check_fields(self, "sampler.")
        given = [f"sampler.{name}" for name in ("scores", "teacher") if getattr(self, name) is not None]
        if len(given) + (self.ranking == "random") > 1:
            both = [*given, "sampler.ranking=random"] if self.ranking == "random" else given
            raise ValueError(f"{' and '.join(both)} are two rankings of the samples. Leave one of them out.")
        if given or self.ranking == "random":  # nothing is learnt, so the state has no part of the sampler
            object.__setattr__(self, "learn", None)
            object.__setattr__(self, "setup", None)

    def setup(self, split: Split) -> dict[str, Tensor]:
        return {"loss": torch.full((len(split),), -math.inf)}

    def learn(self, own: dict[str, Tensor], index: Tensor, losses: Tensor) -> dict[str, Tensor]:
        return {"loss": last_losses(own["loss"], index, losses)}

    def order(
        self,
        split: Split,
        seed: int,
        epoch: int,
        progress: float,
        progress_after: float,
        batch_size: int,
        own: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The positions of one epoch, (N,) int64."""
        count = len(split)
        ranking = self.ranked(split, own)
        num = -(-count // batch_size)
        at = [progress + (progress_after - progress) * i / num for i in range(num)]
        whole = own is not None and epoch == 0
        sizes = [count if whole else self.size(t, count, batch_size) for t in at]
        return drawn_from(ranking, sizes, batch_size, seed)

    def size(self, progress: float, count: int, batch_size: int) -> int:
        """The number of samples in the pool, at least a batch."""
        u = progress / self.full_at
        share = 1.0 if u >= 1.0 else self.start + (1.0 - self.start) * max(0.0, PACINGS[self.pacing](u))
        return min(count, max(batch_size, math.ceil(share * count - 1e-9)))

    def ranked(self, split: Split, own: dict[str, Tensor] | None) -> Tensor:
        """The ranking: (N,) int64 positions."""
        if own is not None:
            difficulty = own["loss"]
        else:
            if "difficulty" not in self.fixed:
                self.fixed["difficulty"] = self.read(split)
            difficulty = self.fixed["difficulty"]
        labels = class_labels(split, "curriculum", "sampler.balanced=false") if self.balanced else None
        return ranked(-difficulty if self.ranking == "hard" else difficulty, 0, labels)

    def read(self, split: Split) -> Tensor:
        """The difficulty of every sample where nothing is learnt: (N,) float."""
        if self.scores is not None:
            return scores_in(self.scores, len(split))
        if self.teacher is not None:
            return teacher_losses(self.teacher, split, self.allow_modules)
        return torch.zeros(len(split))  # ties are in random order
