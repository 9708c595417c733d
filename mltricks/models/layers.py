"""The switches that the models here share: activation, norm, their order, pooling, gates and coordinates.

A model takes them as ``**switches`` and makes its layers with ``Layers``. The YAML file of a model lists the switches
that it has, with their defaults; those that a Python program leaves out are read from there.
Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from mltricks.config.newer import nodes
from mltricks.config.options import conf_dir
from mltricks.config.values import Count, Decay, Positive, Range, Size, UnknownName, check_fields, suggest
from mltricks.models.activations import Activation, activation, fan
from mltricks.models.norms import Norm, new_norm
from mltricks.models.pooling import FractionalMaxPool, HeadPool, Pool, pooled
from mltricks.models.positions import CoordConv2d, Positions
from mltricks.models.residual import Residual
from mltricks.models.squeeze_excite import SqueezeExcite

GROUPS = 8
"""``norm_groups`` unless given; the source has 32, for layers of 64 channels and more."""
SPLITS = 4
"""``ghost_splits`` unless given: 8 samples of the usual batch of 32; Page has 16 of 512."""
POOL_RATIO = 2**0.5
"""``pool_ratio`` unless given, as the source."""
BESIDE = {
    "celu_alpha": ("activation", ("celu",)),
    "norm_groups": ("norm", ("group",)),
    "ghost_splits": ("norm", ("ghost_batch",)),
    "norm_momentum": ("norm", ("batch", "ghost_batch")),
    "norm_eps": ("norm", ("batch", "layer", "group", "ghost_batch")),
    "frozen_scale": ("norm", ("batch", "layer", "group", "ghost_batch")),
    "pool_ratio": ("pool", ("fractional",)),
}
"""Switches that have an effect only beside certain values of another."""
BASIC = ("activation", "celu_alpha", "norm", "norm_groups", "ghost_splits", "frozen_scale")
"""The switches of ``conf/model/_layers.yaml``."""
IMAGES = ("squeeze_excite", "coord_conv")
"""The switches of ``conf/model/_images.yaml``."""


@dataclass(frozen=True)
class Layers:
    """The switches of one model; ``None`` where it has not got one, and where a number is left to its usual value.

    Args:
        model: the option's name, for messages.
        activation, celu_alpha: see ``activations``.
        norm, norm_groups, ghost_splits, norm_momentum, norm_eps, frozen_scale: see ``norms``.
        order: of a layer and what follows it, as ``conv-norm-act-pool``.
        pool, pool_ratio, head_pool: see ``pooling``.
        squeeze_excite: the reduction of the gates; ``None`` for no gates.
        coord_conv: which convolutions read coordinates.
        residual: whether layers of equal width are added to their input.
        depth: the number of layers.
        positions: what a transformer adds to its tokens.
        whiten: side of the kernels of a first layer that ``init=whitening`` sets; 0 for none.
    The values below are those of a model without the switch; the defaults of a switch are in the model's YAML file.

    Raises:
        ValueError: a value out of range, or without effect beside another.
    """

    model: str
    activation: Activation = "relu"
    celu_alpha: Positive | None = None
    norm: Norm = "none"
    norm_groups: Count | None = None
    ghost_splits: Count | None = None
    norm_momentum: Decay | None = None
    norm_eps: Positive | None = None
    frozen_scale: bool = False
    order: str = ""
    pool: Pool | None = None
    pool_ratio: Annotated[float, Range(1.0, 2.0, above=True)] | None = None
    head_pool: HeadPool | None = None
    squeeze_excite: Count | None = None
    coord_conv: Literal["none", "first", "all"] = "none"
    residual: bool = False
    depth: Count = 1
    whiten: Size = 0
    positions: Positions = "none"

    def __post_init__(self) -> None:
        check_fields(self, "model.")
        for other in dict.fromkeys(other for other, _ in BESIDE.values()):
            idle = [n for n, (o, values) in BESIDE.items() if o == other and getattr(self, other) not in values]
            self.refuse_idle([n for n in idle if getattr(self, n) not in (None, False)], other)

    def refuse_idle(self, idle: Sequence[str], other: str) -> None:
        """Refuse switches that have no effect beside the value of another one, all at once."""
        if not idle:
            return
        typed = [f"model.{name}={str(getattr(self, name)).replace('True', 'true')}" for name in idle]
        off = [f"model.{name}={'false' if getattr(self, name) is True else 'null'}" for name in idle]
        usual, first = settings_of(self.model).get(other), BESIDE[idle[0]][1]
        fitting = sorted((v for v in first if all(v in BESIDE[n][1] for n in idle)), key=lambda v: v != usual)
        raise ValueError(
            f"{' and '.join(typed)} {'has' if len(idle) == 1 else 'have'} no effect with "
            f"model.{other}={getattr(self, other)}. Type {' '.join(off)}"
            f"{f', or model.{other}={fitting[0]}' if fitting else ''}."
        )

    @classmethod
    def of(cls, model: str, names: Sequence[str], switches: dict[str, Any]) -> Layers:
        """The switches of a model from its keyword arguments.

        Args:
            model: the option's name.
            names: the switches that it has.
            switches: those that were given; the defaults of the others are read from the option's YAML file.

        Raises:
            UnknownName: a switch that the model has not got.
            ValueError: a value out of range, or an order that lacks a part.
        """
        for name in switches:
            if name not in names:
                raise UnknownName(f"model.{name} is no setting of model={model}. {suggest(name, settings_of(model))}")
        if len(switches) < len(names):
            switches = {name: settings_of(model)[name] for name in names} | switches
        layers = cls(model, **switches)
        if "order" in names:
            first = "linear" if "pool" not in names and "coord_conv" not in names else "conv"
            check_order(layers.order, (first, "norm", "act", *(["pool"] if "pool" in names else [])))
        return layers

    def only(self, switch: str, *values: str) -> None:
        """Refuse values of a switch that the model's structure does not allow."""
        if getattr(self, switch) not in values:
            given = f"model.{switch}={getattr(self, switch)}"
            raise ValueError(f"{given} does not suit model={self.model}. Allowed: {' | '.join(values)}.")

    def act(self, axis: int = 1) -> nn.Module:
        """The activation; ``axis`` is that of the channels."""
        return activation(self.activation, 1.0 if self.celu_alpha is None else self.celu_alpha, axis)

    @property
    def fan(self) -> int:
        """The factor on the channels of a layer before the activation."""
        return fan(self.activation)

    def convolution(
        self,
        channels_in: int,
        channels_out: int,
        pool: bool = False,
        first: bool = False,
        act: bool = True,
        **settings: Any,
    ) -> list[nn.Module]:
        """A convolution, 3x3 unless ``settings`` say otherwise, and what follows it, in the model's order.

        Args:
            channels_in, channels_out: C before and after.
            pool: whether the pooling that halves the image is part of it.
            first: whether it is the model's first layer.
            act: whether the activation is part of it.
            settings: of ``nn.Conv2d``.
        """
        settings = {"kernel_size": 3, "padding": 1, **settings}
        reads_places = self.coord_conv == "all" or (first and self.coord_conv == "first")
        kind = CoordConv2d if reads_places else nn.Conv2d
        made: list[nn.Module] = [kind(channels_in, self.fan * channels_out, **settings, bias=self.has_bias)]
        made += self.after(channels_out, True, pool, act)
        if self.squeeze_excite is not None:
            made.append(SqueezeExcite(channels_out, self.squeeze_excite))
        return made

    def linear(self, features_in: int, features_out: int) -> list[nn.Module]:
        """A linear layer and what follows it, in the model's order."""
        made: list[nn.Module] = [nn.Linear(features_in, self.fan * features_out, bias=self.has_bias)]
        return made + self.after(features_out, False)

    def hidden(self, features_in: int, width: int, depth: int) -> list[nn.Module]:
        """``depth`` hidden layers of ``width`` units, from the second on added to their input if ``residual``."""
        made: list[nn.Module] = []
        for i in range(depth):
            layer = self.linear(width if i else features_in, width)
            made += [Residual(nn.Sequential(*layer))] if self.residual and i else layer
        return made

    @property
    def has_bias(self) -> bool:
        """Whether a layer has a bias: none with a norm between it and the activation, whose shift takes its place."""
        parts = self.order.split("-")
        return self.norm == "none" or ("act" in parts and parts.index("act") < parts.index("norm"))

    def after(self, channels: int, maps: bool, pool: bool = False, act: bool = True) -> list[nn.Module]:
        """Norm, activation and pooling in the model's order; ``channels`` are those behind the activation."""
        made: list[nn.Module] = []
        now = self.fan * channels
        for part in self.order.split("-")[1:]:
            if part == "norm":
                made += self.normalisation(now, maps)
            elif part == "act" and act:
                made.append(self.act())
                now = channels
            elif part == "pool" and pool:
                made.append(self.pooling())
        return made

    def normalisation(self, channels: int, maps: bool) -> list[nn.Module]:
        """The norm of feature maps or of vectors, in a list that is empty for ``none``."""
        if self.norm == "none":
            return []
        norm = new_norm(self.norm, channels, maps, self.norm_groups or GROUPS, self.ghost_splits or SPLITS)
        if self.norm_momentum is not None:
            norm.momentum = 1 - self.norm_momentum
        if self.norm_eps is not None:
            norm.eps = self.norm_eps
        if self.frozen_scale:
            norm.weight.requires_grad_(False)
        return [norm]

    def pooling(self) -> nn.Module:
        """The pooling that makes an image smaller."""
        if self.pool == "fractional":
            return FractionalMaxPool(POOL_RATIO if self.pool_ratio is None else self.pool_ratio)
        return nn.MaxPool2d(2) if self.pool == "max" else nn.AvgPool2d(2)

    def pooled(self, x: Tensor) -> Tensor:
        """What the head sees of a feature map (B, C, H, W)."""
        assert self.head_pool is not None, "a model with a feature map has this switch"
        return pooled(x, self.head_pool)

    def branch(self, branch: nn.Module) -> nn.Module:
        """A residual block, or its branch alone where ``residual`` is off; the names of parameters stay."""
        return Residual(branch) if self.residual else nn.Sequential(OrderedDict(branch=branch))


def settings_of(model: str) -> dict[str, Any]:
    """The settings of an option of the group ``model``, with their defaults."""
    node = next(nodes(conf_dir() / "model" / f"{model}.yaml"))
    return {name: value for name, value in node.items() if name != "_target_"}


def check_order(order: str, parts: tuple[str, ...]) -> None:
    """Refuse an order that is no permutation of the parts with the layer itself in front.

    Raises:
        ValueError: lists those that are.
    """
    allowed = ["-".join((parts[0], *rest)) for rest in permutations(parts[1:])]
    if order not in allowed:
        raise ValueError(f"model.order={order} is not an option. Allowed: {' | '.join(allowed)}.")


def num_features(
    model: nn.Module, features: Callable[[Tensor], Tensor], in_shape: tuple[int, ...], head: Layers
) -> int:
    """How many features a head sees of an image of shape (C, H, W); ``features`` are those of ``model``."""
    training = model.training
    model.eval()
    with torch.no_grad():
        count = head.pooled(features(torch.zeros(1, *in_shape))).numel()
    model.train(training)
    return count
