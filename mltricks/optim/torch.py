"""Any optimiser of ``torch.optim`` by its name.

Source: the class's own documentation. The first update runs the class's own initialisation, so the result
equals a hand-written loop with this class bit for bit. Deviation: ``LBFGS`` and ``SparseAdam`` are refused: the first
evaluates the loss itself, the second needs sparse gradients.
Cost: the class's.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mltricks.config.values import NonNegative, suggest
from mltricks.optim.base import Opt, Optimizer, check_patterns, matching
from mltricks.optim.kernels import laid_out, numbers
from mltricks.state import map_state
from mltricks.technique import Params

UNFIT = {
    "LBFGS": "it evaluates the loss several times an update",
    "SparseAdam": "it takes sparse gradients only",
}


@dataclass(frozen=True)
class Torch(Optimizer):
    """One update of ``torch.optim.<name>``.

    Args:
        name: the class.
        weight_decay: as the class defines it, >= 0; ``None`` for its own default.
        arguments: the class's further arguments; ``None`` for none.

    Raises:
        ValueError: an unknown or unsupported class, or unknown arguments.
    """

    weight_decay: NonNegative | None  # type: ignore[assignment]
    name: str
    arguments: dict[str, Any] | None

    traceable = False

    def __post_init__(self) -> None:
        super().__post_init__()
        cls = find(self.name)
        known = inspect.signature(cls).parameters
        for argument in self.arguments or {}:
            if argument in ("params", "lr", "weight_decay"):
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
        self._make([torch.zeros(1, 1)], [])
        object.__setattr__(self, "_live", {})

    def init(self, params: Params) -> Opt:
        """Tensors shaped as the class's state; their values are not used before the first update.

        Raises:
            ValueError: the class refuses these parameters, or has state that is no tensor.
        """
        check_patterns("optim.no_decay", self.no_decay, params)
        opt: Opt = map_state(torch.zeros_like, self._discover(params))
        device = next(iter(params.values())).device
        return {**opt, "count": torch.zeros((), dtype=torch.int64, device=device)}

    def update(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        return self.update_in_place(grads, map_state(torch.clone, opt), map_state(torch.clone, params))

    def update_in_place(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        if not numbers(self.lr):
            raise ValueError(
                "optim=torch takes numbers, so it can be neither traced nor stacked. Type engine=eager, or optim=adamw."
            )
        live = self._resume(opt, params)
        _step(live, grads, params, self.lr, self.weight_decay)
        opt = {**_state(live, params), "count": opt["count"] + 1}
        self._live.update(opt=opt, params=list(params.values()), optimizer=live)  # type: ignore[attr-defined]
        return params, opt

    def _resume(self, opt: Opt, params: Params) -> Any:
        """The ``torch.optim`` object of the last update if it holds these tensors, else a new one with their values."""
        held = self._live  # type: ignore[attr-defined]
        if held.get("opt") is opt and [id(p) for p in params.values()] == [id(p) for p in held["params"]]:
            return held["optimizer"]
        live = self._split(params)
        if int(opt["count"]) > 0:  # before the first update the class initialises its state itself
            like = self._discover(params)
            for slot, tensors in like.items():
                for name, tensor in tensors.items():  # torch keeps some scalars on the CPU
                    live.state[params[name]][slot] = opt[slot][name].to(tensor.device)
        return live

    def _discover(self, params: Params) -> Opt:
        """The state of the class, found by an update of copies."""
        copies = {name: p.clone() for name, p in params.items()}
        live = self._split(copies)
        _step(live, map_state(torch.zeros_like, copies), copies, self.lr, self.weight_decay)
        return _state(live, copies)

    def _split(self, params: Params) -> Any:
        spared = matching(self.no_decay, params)
        return self._make(
            [p for n, p in params.items() if n not in spared], [p for n, p in params.items() if n in spared]
        )

    def _make(self, decayed: list[Tensor], spared: list[Tensor]) -> Any:
        groups: list[dict[str, Any]] = [{"params": decayed, "spared": False}] if decayed else []
        groups += [{"params": spared, "spared": True, "weight_decay": 0.0}] if spared else []
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        try:
            return find(self.name)(groups, lr=self.lr, **decay, **(self.arguments or {}))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"optim.name={self.name} refuses optim.arguments={self.arguments} or this model: {error}"
            ) from error


def classes() -> dict[str, Any]:
    """The optimisers of ``torch.optim`` by name, those that do not fit included."""
    import torch.optim  # imported here, because it takes a second

    known = {n: c for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)}
    del known["Optimizer"]
    return known


def names() -> list[str]:
    """The values of ``optim.name``."""
    return [name for name in classes() if name not in UNFIT]


def find(name: str) -> Any:
    """The class of ``torch.optim`` with this name.

    Raises:
        ValueError: the class does not exist, or is not supported.
    """
    known = classes()
    if name in UNFIT:
        raise ValueError(
            f"optim.name={name} cannot be used: {UNFIT[name]}. Type another, for instance optim.name=RMSprop."
        )
    if name not in known:
        raise ValueError(
            f"optim.name={name} is no optimiser of torch.optim. {suggest(name, known.keys() - UNFIT.keys())}"
        )
    return known[name]


def _step(live: Any, grads: Params, params: Params, lr: float, weight_decay: float | None) -> None:
    """Run one update of a ``torch.optim`` object on its parameters."""
    for group in live.param_groups:
        group["lr"] = lr
        if weight_decay is not None and not group["spared"]:
            group["weight_decay"] = weight_decay
    names, tensors = list(params), list(params.values())
    for p, g in zip(tensors, laid_out(dict(grads), names, tensors, [p.stride() for p in tensors]), strict=True):
        p.grad = g
    live.step()
    for p in params.values():
        p.grad = None


def _state(live: Any, params: Params) -> Opt:
    """The state tensors of a ``torch.optim`` object, by slot and parameter.

    Raises:
        ValueError: the state holds something else than tensors.
    """
    opt: Opt = {}
    for name, p in params.items():
        for slot, value in live.state[p].items():
            if isinstance(value, Tensor):
                opt.setdefault(slot, {})[name] = value
            elif value is not None:
                raise ValueError(
                    f"optim.name={type(live).__name__} keeps {slot}={value!r}, no tensor, so it could not resume."
                )
    return opt
