"""What ``optim.lr`` and ``optim.weight_decay`` count in: a batch of a stated size, and quantities that stay apart.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, arXiv:1404.5997, section 5,
and Goyal et al., 2017, arXiv:1706.02677 (``scale_lr=linear`` for gradient descent); Malladi et al., 2022,
arXiv:2205.10782 (``sqrt`` for Adam and RMSprop; Deviation: they also scale betas and eps); Page, "How to Train Your
ResNet 5: Hyperparameters", 2018: the invariants lr / batch, lr / (1 - momentum) and lr * weight_decay.

``scale_lr``: every learning rate is for an update of ``base_batch`` samples. It is multiplied by
batch_size / base_batch, or by its root. An update takes ``batch_size`` samples, also with ``technique=accumulate``,
which divides them into micro-batches; unlabelled samples do not count.

``coordinates=decoupled``, with plain values on the left:

    lr = optim.lr * (1 - momentum) * (batch_size / base_batch, or its root)
    weight_decay = optim.weight_decay / optim.lr

So ``optim.lr`` is how far a constant gradient moves a weight per update in the end, and ``optim.weight_decay`` is the
share of a weight that the decay takes per update in the end, both at the base batch: a search over one of ``lr``,
``momentum``, ``weight_decay`` and ``batch_size`` leaves the two quantities alone that it does not name. The factor
1 - momentum is for optimisers whose momentum is a sum of gradients (``sgd``, ``rmsprop``, ``lars``); where it is an
average, as in Adam, ``lr`` is that distance already. The decay has this meaning where it takes lr * weight_decay of a
weight (``sgd``, ``adamw``, ``lion``, ``muon`` at its ``lr``, ``schedule_free``, ``radam`` and ``nadam`` with decoupled
decay); elsewhere it must be 0. An optimiser that has neither is refused.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from mltricks.config.options import option_of
from mltricks.config.values import Count, check_value, float_fields

SETTINGS: dict[str, Any] = {
    "scale_lr": Literal["none", "linear", "sqrt"],
    "base_batch": Count,
    "coordinates": Literal["plain", "decoupled"],
}
"""The settings of an optimiser that are read before it is created, with their types."""


def plain(node: dict[str, Any], cls: Any, batch_size: int) -> dict[str, Any]:
    """The node of an optimiser with plain values: a pure function, the identity for the defaults.

    Args:
        node: the configuration node, schedules included.
        cls: its class.
        batch_size: samples of an update.

    Raises:
        ValueError: a setting is wrong, or the decoupled coordinates mean nothing for this optimiser.

    >>> from mltricks.optim.sgd import SGD
    >>> node = {"lr": 0.5, "momentum": 0.75, "weight_decay": 0.25, "coordinates": "decoupled"}
    >>> plain({**node, "scale_lr": "linear", "base_batch": 64}, SGD, 128)
    {'lr': 0.25, 'momentum': 0.75, 'weight_decay': 0.5}
    """
    rest = {name: value for name, value in node.items() if name not in SETTINGS}
    if "coordinates" not in node:
        return rest
    for name, hint in SETTINGS.items():
        check_value(f"optim.{name}", node[name], hint)
    for name, hint in float_fields(cls).items():  # as typed: the class itself sees the plain values
        if is_number(node.get(name)):
            check_value(f"optim.{name}", node[name], hint)
    factor = rate_factor(node, cls, batch_size)
    if node["coordinates"] == "decoupled":
        check_decoupled(node, cls)
        if node["weight_decay"]:
            rest["weight_decay"] = times(node["weight_decay"], 1 / node["lr"])
    rates = getattr(cls, "learning_rates", ("lr",))
    rest |= {name: times(node[name], factor) for name in rates if name in node}
    if isinstance(groups := node.get("groups"), dict):
        rest["groups"] = {
            pattern: {n: times(v, factor if n in rates else 1.0) for n, v in floats.items()}
            if isinstance(floats, dict)
            else floats
            for pattern, floats in groups.items()
        }
    return rest


def rate_factor(node: dict[str, Any], cls: Any, batch_size: int) -> float:
    """The plain learning rate for an ``optim.lr`` of 1.

    Raises:
        ValueError: the momentum is not a number.
    """
    if "coordinates" not in node:
        return 1.0
    ratio = batch_size / node["base_batch"]
    factor = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[node["scale_lr"]]
    momentum = getattr(cls, "accumulates", "")
    if node["coordinates"] == "plain" or not momentum:
        return factor
    if not is_number(node[momentum]):
        raise ValueError(
            f"optim.{momentum}={node[momentum]} must be a number with optim.coordinates=decoupled, as the learning "
            f"rate follows from it. Type optim.{momentum}=0.9."
        )
    return factor * (1 - node[momentum])


def check_decoupled(node: dict[str, Any], cls: Any) -> None:
    """Refuse decoupled coordinates where they mean nothing.

    Raises:
        ValueError: says for which setting, and what to type.
    """
    momentum, shrinks = getattr(cls, "accumulates", ""), getattr(cls, "shrinks", False)
    switch = shrinks if isinstance(shrinks, str) else ""
    shrinks = bool(node.get(switch)) if switch else shrinks
    fix = f" or optim.{switch}=true" if switch else ""
    if not momentum and not shrinks:
        raise ValueError(
            f"optim.coordinates=decoupled means nothing for optim={option_of('optim', cls)}: its momentum does not add "
            f"to the learning rate, and its decay takes no fixed share of a weight. Type optim.coordinates=plain{fix}."
        )
    if not shrinks and node["weight_decay"] not in (0, None):
        raise ValueError(
            f"optim.weight_decay={node['weight_decay']} has no decoupled coordinate with "
            f"optim={option_of('optim', cls)}, whose decay takes no fixed share of a weight. Type "
            f"optim.weight_decay=0 or optim.coordinates=plain{fix}."
        )
    if node["weight_decay"] and not is_number(node["lr"]):
        raise ValueError(
            f"optim.lr={node['lr']} must be a number with optim.coordinates=decoupled, as the weight decay follows "
            "from it. Type a number, and let scheduler=... change it."
        )
    for pattern, floats in (node.get("groups") or {}).items():
        for key, value in floats.items() if isinstance(floats, dict) else ():
            if key == momentum or (is_number(value) and key in ("weight_decay", *cls.learning_rates)):
                raise ValueError(
                    f"optim.groups.{pattern}.{key}={value} has no decoupled coordinate. Type optim.coordinates=plain"
                    + ("." if key == momentum else f", or a multiple of the plain value, as {key}: x2.")
                )


def times(value: Any, factor: float) -> Any:
    """A number, or both ends of a schedule, times a factor; anything else as it is, for its class to judge."""
    if factor == 1.0:
        return value
    if isinstance(value, dict):
        return {name: times(v, factor) if name in ("start", "end") else v for name, v in value.items()}
    return value * factor if is_number(value) else value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def said(typed: dict[str, Any], made: dict[str, Any], batch_size: int) -> list[str]:
    """A line with the plain values, if they differ from those typed.

    Args:
        typed: the configuration node.
        made: what ``plain`` makes of it.
        batch_size: samples of an update.

    >>> node = {"lr": 0.5, "scale_lr": "linear", "base_batch": 64, "coordinates": "plain"}
    >>> said(node, {"lr": 0.125}, 16)
    ['note: the optimiser has lr=0.125 (optim.lr=0.5; optim.scale_lr=linear, batch_size=16, optim.base_batch=64)']
    """
    numbers = {name: value for name, value in made.items() if is_number(value) and is_number(typed.get(name))}
    changed = [name for name, value in numbers.items() if value != typed[name]]
    if not changed:
        return []
    values = " ".join(f"{name}={made[name]:.6g}" for name in changed)
    why = [" ".join(f"optim.{name}={typed[name]:.6g}" for name in changed)]
    if typed["scale_lr"] != "none":
        why.append(
            f"optim.scale_lr={typed['scale_lr']}, batch_size={batch_size}, optim.base_batch={typed['base_batch']}"
        )
    why += ["optim.coordinates=decoupled"] if typed["coordinates"] == "decoupled" else []
    return [f"note: the optimiser has {values} ({'; '.join(why)})"]
