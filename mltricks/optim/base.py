"""The base class of optimisers: ``init`` creates an optimiser's tensors, ``update`` is one pure step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mltricks.config.values import NonNegative, Positive, check_fields, float_fields
from mltricks.optim.coordinates import SETTINGS
from mltricks.optim.groups import Change, check_effects, parsed, patterns_of
from mltricks.optim.matching import check_patterns, matching
from mltricks.technique import Params, bind

Opt = dict[str, Any]
Slots = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Optimizer:
    """The base class. It converts the dicts of the state to lists, and divides the parameters by rule, group and decay.

    A subclass defines ``slots``, the names of its tensors per parameter, and ``rule``, its arithmetic on lists. A
    subclass with a fused kernel derives from ``mltricks.optim.kernels.WithKernel``.

    Args:
        lr: learning rate, > 0.
        weight_decay: strength of the decay, >= 0; the subclass defines where it enters.
        no_decay: name patterns of parameters without decay; ``mltricks.optim.matching`` lists the special words.
        groups: other floats for the parameters that a pattern matches, see ``mltricks.optim.groups``; ``None`` for
            none.
    """

    lr: Positive
    weight_decay: NonNegative
    no_decay: Sequence[str]
    groups: dict[str, Any] | None

    slots: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    """The slots with one tensor for all parameters of a rule, kept under the first parameter's name."""
    traceable: ClassVar[bool] = True
    """Whether engines may trace ``update``."""
    learning_rates: ClassVar[tuple[str, ...]] = ("lr",)
    """The fields that the ``scheduler`` group schedules."""
    reads: ClassVar[tuple[Collection[str], ...]] = ()
    """The floats that each of ``rules`` reads; empty: every rule reads all."""
    undriven: ClassVar[tuple[str, ...]] = ()
    """The floats that no schedule may drive; a warm-up of the learning rate is no schedule."""
    accumulates: ClassVar[str] = ""
    """The momentum that is a sum of gradients, so that a constant one moves a weight by lr / (1 - momentum) of it."""
    shrinks: ClassVar[bool | str] = False
    """Whether the decay takes lr * weight_decay of a weight, whatever its gradient; or the setting that decides."""
    settings: ClassVar[dict[str, Any]] = SETTINGS
    """Settings of its option that are read before it is created, with their types."""
    _changes: ClassVar[tuple[Change, ...]] = ()
    """Of an object: what its groups change."""
    _names: ClassVar[dict[tuple[str, ...], Any]] = {}
    """Of an object, and shared with the objects bound from it: how parameters are divided, by their names."""

    def __post_init__(self) -> None:
        check_fields(self, "optim.")
        object.__setattr__(self, "_names", {})
        object.__setattr__(self, "_changes", parsed(self.groups, self.group_fields(), self.own_values(), type(self)))

    @property
    def group_rates(self) -> dict[str, float]:
        """The learning rates that groups give as numbers, by the name under which the step feeds them."""
        rates = [(change.fed, change.value) for change in self._changes if change.name in self.learning_rates]
        return {fed: value for fed, value in rates if value is not None}

    @property
    def constant_rates(self) -> set[str]:
        """Those of ``group_rates`` that the ``scheduler`` leaves as they are."""
        return {change.fed for change in self._changes if change.constant}

    def group_fields(self) -> dict[str, Any]:
        """The floats that a group may change, each with its type hint."""
        return float_fields(type(self))

    def own_values(self) -> Mapping[str, Any]:
        """The optimiser's own value of every float that a group may change."""
        return vars(self)

    def init(self, params: Params) -> Opt:
        """The initial tensors: ``first`` of every slot and parameter, and the count of updates.

        Raises:
            ValueError: a pattern matches no parameter, or a group has no effect.
        """
        self._names.clear()
        check_patterns("optim.no_decay", self.no_decay, params)
        check_effects(self._changes, self._read_by(params))
        opt: Opt = {}
        for names, rule in self.parts(params):
            for slot in rule.slots:
                new = {name: rule.first(slot, params[name]) for name in rule.keepers(slot, names)}
                opt.setdefault(slot, {}).update(new)
        device = next(iter(params.values())).device
        return {**opt, "count": torch.zeros((), device=device)}

    def first(self, slot: str, param: Tensor) -> Tensor:
        """The initial tensor of a slot: zeros like the parameter. It is a new tensor, of any shape."""
        return torch.zeros_like(param)

    def keepers(self, slot: str, names: list[str]) -> list[str]:
        """The parameters under whose names a slot's tensors are kept."""
        return names[:1] if slot in self.shared else names

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
        for names, rule in self.parts(params):
            slots = {slot: [opt[slot][n] for n in rule.keepers(slot, names)] for slot in rule.slots}
            p, slots = rule.apply([grads[n] for n in names], slots, [params[n] for n in names], new_opt["count"])
            new_params.update(zip(names, p, strict=True))
            for slot in rule.slots:
                new_opt[slot].update(zip(rule.keepers(slot, names), slots[slot], strict=True))
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

    def parts(self, params: Params) -> list[tuple[list[str], Optimizer]]:
        """The parameters by the rule that updates them: lists of names, each with its optimiser."""
        names, cache = tuple(params), self._names
        if names not in cache:
            cache[names] = self._divide(params)
        found: list[tuple[list[str], Optimizer]] = []
        rules: dict[tuple[str, ...], Sequence[Optimizer]] = {}
        for (index, patterns, spared), members in cache[names]:
            if patterns not in rules:
                rules[patterns] = self._changed(patterns).rules()
            rule = rules[patterns][index]
            found.append((members, bind(rule, {"weight_decay": 0.0}) if spared else rule))
        return found

    def _divide(self, params: Params) -> list[tuple[tuple[int, tuple[str, ...], bool], list[str]]]:
        """The names by index of the rule, patterns of the groups, and whether they are spared the decay."""
        spared, patterns = matching(self.no_decay, params), patterns_of(self._changes, params)
        parts: dict[tuple[int, tuple[str, ...], bool], list[str]] = {}
        for index, chosen in enumerate(self.choose(params)):
            for name in sorted(chosen, key=lambda name: name in spared):  # decayed ones first
                parts.setdefault((index, patterns.get(name, ()), name in spared), []).append(name)
        return list(parts.items())

    def _changed(self, patterns: tuple[str, ...]) -> Any:
        """This optimiser with the floats of the groups with these patterns."""
        return bind(self, {c.name: c.of(self) for c in self._changes if c.pattern in patterns})

    def _read_by(self, params: Params) -> dict[str, dict[str, Collection[str]]]:
        """The floats that have an effect on each parameter, by pattern of a group and name."""
        spared, found = matching(self.no_decay, params), {}
        patterns, every = patterns_of(self._changes, params), set(self.group_fields())
        for index, chosen in enumerate(self.choose(params)):
            read = set(self.reads[index]) if self.reads else every
            for name in chosen:
                found[name] = read - {"weight_decay"} if name in spared else read
        words = {change.pattern for change in self._changes}
        return {w: {name: found[name] for name in found if w in patterns.get(name, ())} for w in words}
