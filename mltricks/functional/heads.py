"""Small networks that techniques put behind a model's features, and how they run with the parameters of a state.

Batch norm in them keeps no running statistics, since they only run in training. Legend: B batch.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.func import functional_call

from mltricks.technique import Params


def hidden(*widths: int) -> list[nn.Module]:
    """A linear layer without bias, batch norm and ReLU for every width after the first."""
    made: list[nn.Module] = []
    for given, width in pairwise(widths):
        made += [nn.Linear(given, width, bias=False), norm(width), nn.ReLU()]
    return made


def norm(width: int, affine: bool = True) -> nn.Module:
    """Batch norm with the statistics of the batch."""
    return nn.BatchNorm1d(width, affine=affine, track_running_stats=False)


def run(layers: nn.Module, params: Params, prefix: str, x: Tensor) -> Tensor:
    """The output of layers whose parameters lie among those of the state.

    Args:
        layers: their structure; their own parameters are not read.
        params: of the state, with those of the layers as PREFIX + NAME.
        prefix: such as ``moco/``.
        x: (B, features).
    """
    mine = {name: params[prefix + name] for name, _ in layers.named_parameters()}
    output: Tensor = functional_call(layers, mine, (x,))
    return output
