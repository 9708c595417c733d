"""Ghost batch norm: every batch norm of the model takes its statistics from parts of the batch.

Source: Hoffer, Hubara, Soudry, "Train longer, generalize better", 2017, arXiv:1705.08741; split and running statistics
of Page 2019 (``mltricks.functional.ghost_norm``).
Deviation: the paper states the size of a ghost batch; ``splits`` is their number, as in Page's code.
Shapes: those of the model.
Cost: a copy of every batch norm's input.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.functional import ghost_norm
from mltricks.state import leaves
from mltricks.technique import Own, Params, Technique

KEY = "technique.ghost_batch_norm.splits"


@dataclass(frozen=True)
class GhostBatchNorm(Technique):
    """Split s of S normalises the samples s, s + S, s + 2 S, ... in training; evaluation is that of batch norm.

    Args:
        splits: S, >= 1; it divides the batch.
    """

    splits: Count

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
        if not norms:
            raise ValueError(
                f"technique=ghost_batch_norm changes batch norms, and {type(model).__name__} has none. "
                "Type model=resnet9, or leave ghost_batch_norm out."
            )
        ghost_norm.check_splits(KEY, self.splits, len(next(leaves(batch["x"]))))
        for name, norm in norms.items():
            ghost_norm.haunt(name, norm, self.splits, KEY)
        return params, {}
