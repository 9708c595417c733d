"""The base class of optimisers: ``init`` creates an optimiser's tensors, ``update`` is one pure step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import NonNegative, Positive, check_fields, suggest
from mltricks.technique import Params, bind

Opt = dict[str, Any]
Slots = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Optimizer:
    """The base class. It converts the dicts of the state to lists, and separates parameters without weight decay.

    A subclass defines ``slots``, the names of its tensors per parameter, and ``rule``, its arithmetic on lists. A
    subclass with a fused kernel derives from ``mltricks.optim.kernels.WithKernel``.

    Args:
        lr: learning rate, > 0.
        weight_decay: strength of the decay, >= 0; the subclass defines where it enters.
        no_decay: name patterns of parameters without decay; ``matching`` lists the special words.
    """

    lr: Positive
    weight_decay: NonNegative
    no_decay: Sequence[str]

    slots: ClassVar[tuple[str, ...]] = ()
    traceable: ClassVar[bool] = True
    """Whether engines may trace ``update``."""
    learning_rates: ClassVar[tuple[str, ...]] = ("lr",)
    """The fields that the ``scheduler`` group schedules."""

    def __post_init__(self) -> None:
        check_fields(self, "optim.")
        object.__setattr__(self, "_names", {})

    def init(self, params: Params) -> Opt:
        """The initial tensors: zeros for every slot and parameter, and the count of updates.

        Raises:
            ValueError: a pattern matches no parameter.
        """
        self._names.clear()  # type: ignore[attr-defined]
        check_patterns("optim.no_decay", self.no_decay, params)
        opt: Opt = {}
        for names, rule in self.groups(params):
            for slot in rule.slots:
                opt.setdefault(slot, {}).update({name: torch.zeros_like(params[name]) for name in names})
        device = next(iter(params.values())).device
        return {**opt, "count": torch.zeros((), device=device)}

    def update(self, grads: Params, opt: Opt, params: Params) -> tuple[Params, Opt]:
        """One step.

        Args:
            grads: gradients by parameter name, shaped as the parameters.
            opt: the result of ``init`` or of the last ``update``.
            params: parameters by name.

        Returns:
            New parameters and new optimiser tensors; the given ones stay unchanged.
        """
        new_params = dict(params)
        new_opt: Opt = {slot: dict(held) for slot, held in opt.items() if slot != "count"}
        new_opt["count"] = opt["count"] + 1
        for names, rule in self.groups(params):
            slots = {slot: [opt[slot][n] for n in names] for slot in rule.slots}
            p, slots = rule.apply([grads[n] for n in names], slots, [params[n] for n in names], new_opt["count"])
            new_params.update(zip(names, p, strict=True))
            for slot in rule.slots:
                new_opt[slot].update(zip(names, slots[slot], strict=True))
        return new_params, new_opt

    def apply(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        """Compute ``rule``; subclasses override this with a faster way."""
        return self.rule(grads, slots, params, count)

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        """Compute new parameters and slots from gradients, slots and parameters; ``count`` starts at 1."""
        raise AssertionError(f"{type(self).__name__} defines no rule")

    def choose(self, params: Params) -> list[list[str]]:
        """The names of the parameters that each of ``rules`` updates."""
        return [list(params)]

    def rules(self) -> Sequence[Optimizer]:
        """The optimisers that divide the parameters among them, with the present hyperparameters."""
        return (self,)

    def groups(self, params: Params) -> list[tuple[list[str], Optimizer]]:
        """Groups of parameter names, each with its optimiser; parameters without decay form their own groups."""
        names, cache = tuple(params), self._names  # type: ignore[attr-defined]
        if names not in cache:
            spared = matching(self.no_decay, params)
            cache[names] = [
                ([n for n in part if n not in spared], [n for n in part if n in spared]) for part in self.choose(params)
            ]
        groups: list[tuple[list[str], Optimizer]] = []
        for rule, (decayed, others) in zip(self.rules(), cache[names], strict=True):
            if decayed:
                groups.append((decayed, rule))
            if others:
                groups.append((others, bind(rule, {"weight_decay": 0.0})))
        return groups


def matching(patterns: Sequence[str], params: Params) -> set[str]:
    """The names of the parameters that match any of the patterns.

    Args:
        patterns: names with ``* ? [ ]``, or one of these words: ``norm_and_bias``, every parameter of one dimension or
            none; ``embedding``, those whose name contains ``emb``; ``first`` and ``head``, the first and the last
            of the model's parameters with two dimensions or more, in the order of declaration. In a model with
            embeddings and no ``head`` the two are tied, and ``embedding`` is both.
        params: parameters by name; those of techniques (their names have a slash) are never ``first`` or ``head``.

    >>> params = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2), "b.bias": torch.ones(2)}
    >>> sorted(matching(["head", "norm_and_bias"], params))
    ['b.bias', 'b.weight']
    """
    found: set[str] = set()
    for pattern in patterns:
        word = _WORDS.get(pattern)
        found.update(word(params) if word else (name for name in params if fnmatchcase(name, pattern)))
    return found


def _matrices(params: Params) -> list[str]:
    return [name for name, p in params.items() if p.ndim >= 2 and "/" not in name]


def _tied(params: Params) -> bool:
    """Whether the output layer shares the embedding's weight; the last matrix is then in a hidden layer."""
    matrices = _matrices(params)
    return any("emb" in name for name in matrices) and "head" not in matrices[-1]


_WORDS: dict[str, Callable[[Params], list[str]]] = {
    "norm_and_bias": lambda params: [name for name, p in params.items() if p.ndim <= 1],
    "embedding": lambda params: [name for name in params if "emb" in name],
    "first": lambda params: _matrices(params)[:1],
    "head": lambda params: [] if _tied(params) else _matrices(params)[-1:],
}


def check_patterns(key: str, patterns: Sequence[str], params: Params) -> None:
    """Refuse a pattern that matches no parameter, because it has no effect; special words may match none.

    Raises:
        ValueError: names the pattern and the nearest parameters.
    """
    for pattern in patterns:
        if pattern not in _WORDS and not matching([pattern], params):
            raise ValueError(f"{key} has {pattern}, which matches no parameter. {suggest(pattern, [*params, *_WORDS])}")
