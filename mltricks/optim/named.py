"""An optimiser of another package, wrapped: its state as tensors of the run's state, its settings from the option.

The first update runs the class's own initialisation, so the result equals a hand-written loop with the class bit for
bit. Cost: the class's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import NonNegative, suggest
from mltricks.optim.base import Opt, Optimizer
from mltricks.optim.groups import check_effects, patterns_of
from mltricks.optim.kernels import laid_out, numbers
from mltricks.optim.matching import check_patterns, matching
from mltricks.state import map_state
from mltricks.technique import Params

OF_GROUP = "group_"
"""Prefix of the slots that a class keeps once for a parameter group."""
OWN = ("lr", "weight_decay")
"""The floats that a step feeds; the others are the class's arguments."""


@dataclass(frozen=True)
class Named(Optimizer):
    """The base class. A subclass has ``constructor`` and the words for messages.

    Args:
        name: of the class.
        weight_decay: as the class defines it, >= 0; ``None`` for its own default.
        arguments: the class's further arguments; ``None`` for none.

    Raises:
        ValueError: an unknown or unsupported class, or unknown arguments.
    """

    weight_decay: NonNegative | None  # type: ignore[assignment]
    name: str
    arguments: dict[str, Any] | None

    traceable = False
    option: ClassVar[str] = ""
    """The name of the option."""
    _live: ClassVar[dict[str, Any]] = {}
    """Of an object, and shared with those bound from it: the wrapped object, and the tensors that it holds."""

    def constructor(self) -> Callable[..., Any]:
        """The class, or the function that makes its object: it takes parameter groups and keyword arguments.

        Raises:
            ValueError: the class does not exist, or is not supported.
        """
        raise AssertionError(f"{type(self).__name__} defines no constructor")

    def __post_init__(self) -> None:
        known = inspect.signature(self.constructor()).parameters
        for argument in self.arguments or {}:
            if argument in ("params", *OWN):
                raise ValueError(
                    f"optim.arguments has {argument}, which has a key of its own. Type optim.{argument}=VALUE."
                )
            if argument not in known:
                raise ValueError(
                    f"optim.arguments has {argument}, which {self.name} does not take. {suggest(argument, known)}"
                )
        if "weight_decay" not in known:
            if self.weight_decay is not None or self.no_decay:
                raise ValueError(
                    f"optim.name={self.name} has no weight decay. Type optim.weight_decay=null optim.no_decay=none."
                )
        elif self.weight_decay is None:
            object.__setattr__(self, "weight_decay", float(known["weight_decay"].default))
        super().__post_init__()
        for patterns in [(), *((change.pattern,) for change in self._changes)]:
            self._make([{"params": [torch.zeros(1, 1)]}], self._arguments(patterns))
        object.__setattr__(self, "_live", {})

    def group_fields(self) -> dict[str, Any]:
        """lr, weight_decay and the class's arguments that are numbers; the class itself checks their ranges."""
        fields = {name: hint for name, hint in super().group_fields().items() if getattr(self, name) is not None}
        return fields | {name: float for name in self.own_values() if name not in OWN}

    def own_values(self) -> Mapping[str, Any]:
        known = inspect.signature(self.constructor()).parameters
        given = {name: p.default for name, p in known.items()} | (self.arguments or {})
        return {name: value for name, value in given.items() if type(value) in (int, float)} | {
            name: getattr(self, name) for name in OWN
        }

    def init(self, params: Params) -> Opt:
        """Tensors shaped as the class's state; their values are not used before the first update.

        Raises:
            ValueError: the class refuses these parameters, or has state that is neither tensor nor number.
        """
        check_patterns("optim.no_decay", self.no_decay, params)
        check_effects(self._changes, self._read_by(params))
        opt: Opt = map_state(torch.zeros_like, state_of(*self._discover(params)))
        device = next(iter(params.values())).device
        return {**opt, "count": torch.zeros((), dtype=torch.int64, device=device)}

    def update(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        return self.update_in_place(grads, map_state(torch.clone, opt), map_state(torch.clone, params))

    def update_in_place(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        if not numbers(self.lr):
            raise ValueError(
                f"optim={self.option} takes numbers, so it can be neither traced nor stacked. Type engine=eager, or "
                "optim=adamw."
            )
        live = self._resume(opt, params)
        self._step(live, grads, params)
        opt = {**state_of(live, params, self._live["groups"]), "count": opt["count"] + 1}
        self._live.update(opt=opt, params=list(params.values()), optimizer=live)
        return params, opt

    def _resume(self, opt: Opt, params: Params) -> Any:
        """The object of the last update if it holds these tensors, else a new one with their values."""
        held = self._live
        if held.get("opt") is opt and [id(p) for p in params.values()] == [id(p) for p in held["params"]]:
            return held["optimizer"]
        like, copies, held["groups"] = self._discover(params)
        live = self._split(params)
        if int(opt["count"]) > 0:  # before the first update the class initialises its state itself
            for name, copy in copies.items():
                for slot, value in like.state[copy].items():
                    live.state[params[name]][slot] = None if value is None else as_in(value, opt[slot][name])
            names = {id(p): name for name, p in params.items()}
            for group, old in zip(live.param_groups, like.param_groups, strict=True):
                first = names[id(group["params"][0])]
                group.update({key: as_in(old[key], opt[OF_GROUP + key][first]) for key in held["groups"]})
        return live

    def _discover(self, params: Params) -> tuple[Any, Params, Collection[str]]:
        """An object of the class after an update of copies, the copies, and the keys of its state in groups."""
        copies = {name: p.clone() for name, p in params.items()}
        live = self._split(copies)
        before = set(live.param_groups[0])
        self._step(live, map_state(torch.zeros_like, copies), copies)
        return live, copies, sorted(set(live.param_groups[0]) - before)

    def _split(self, params: Params) -> Any:
        """An object of the class, with a parameter group for every combination of groups and ``no_decay``."""
        spared, patterns = matching(self.no_decay, params), patterns_of(self._changes, params)
        parts: dict[tuple[tuple[str, ...], bool], list[Tensor]] = {}
        for name in sorted(params, key=lambda name: name in spared):  # decayed ones first
            parts.setdefault((patterns.get(name, ()), name in spared), []).append(params[name])
        groups: list[dict[str, Any]] = []
        for (of, no), tensors in parts.items():
            groups.append({"params": tensors, "spared": no, "patterns": of, **self._arguments(of, {})})
            groups[-1].update({"weight_decay": 0.0} if no else {})
        return self._make(groups, self.arguments or {})

    def _arguments(self, patterns: Collection[str], rest: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The class's arguments in a group, besides lr and weight_decay; with those that it leaves as they are."""
        own, found = self.own_values(), dict((self.arguments or {}) if rest is None else rest)
        for change in self._changes:
            if change.pattern in patterns and change.name not in OWN:
                found[change.name] = change.value if change.value is not None else own[change.name] * change.factor
        return found

    def _make(self, groups: list[dict[str, Any]], arguments: Mapping[str, Any]) -> Any:
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        try:
            return self.constructor()(groups, lr=self.lr, **decay, **arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"optim.name={self.name} refuses optim.arguments={dict(arguments) or None} or this model: {error}"
            ) from error

    def _step(self, live: Any, grads: Params, params: Params) -> None:
        """Run one update of an object on its parameters, with the present floats."""
        for group in live.param_groups:
            now = {change.name: change for change in self._changes if change.pattern in group["patterns"]}
            group["lr"] = now["lr"].of(self) if "lr" in now else self.lr
            if self.weight_decay is not None and not group["spared"]:
                group["weight_decay"] = now["weight_decay"].of(self) if "weight_decay" in now else self.weight_decay
        names, tensors = list(params), list(params.values())
        for p, g in zip(tensors, laid_out(dict(grads), names, tensors, [p.stride() for p in tensors]), strict=True):
            p.grad = g
        live.step()
        for p in params.values():
            p.grad = None


def as_in(like: Any, tensor: Tensor) -> Any:
    """A saved value as the class keeps it: a number, or a tensor on its own device (torch keeps some on the CPU)."""
    return tensor.to(like.device) if isinstance(like, Tensor) else type(like)(tensor.item())


def state_of(live: Any, params: Params, of_groups: Collection[str]) -> Opt:
    """The state of an object as tensors, by slot and parameter; what it keeps for a group is at its first parameter.

    Raises:
        ValueError: the state holds something else than tensors and numbers.
    """
    opt: Opt = {}
    names = {id(p): name for name, p in params.items()}
    kept = [(slot, name, value) for name, p in params.items() for slot, value in live.state[p].items()]
    kept += [(OF_GROUP + k, names[id(g["params"][0])], g[k]) for g in live.param_groups for k in of_groups]
    for slot, name, value in kept:
        if isinstance(value, Tensor):
            opt.setdefault(slot, {})[name] = value
        elif isinstance(value, int | float):
            opt.setdefault(slot, {})[name] = torch.tensor(value, dtype=torch.float64 if type(value) is float else None)
        elif value is not None:
            raise ValueError(
                f"optim.name={type(live).__name__} keeps {slot}={value!r}, neither tensor nor number, so it could not "
                "resume."
            )
    return opt
