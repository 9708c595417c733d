"""The search space of a command: fixed settings, swept ones, and those swept only under certain options.

Hydra's own grammar parses the overrides. A setting may exist only under some options: ``technique.mixup.alpha`` only
if mixup is among the techniques. Trials without those options leave it out. To find which settings exist, Hydra
composes every set of options once, when a trial first draws it.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mltricks.config.known import NEAR
from mltricks.config.names import shown
from mltricks.config.stages import as_change, as_typed
from mltricks.sweep.option_sets import Composed, Compositions
from mltricks.sweep.ranges import DECADE, Domain, Span, domain_of, ends

MAX_SETS = 16
"""Up to this number of sets of options, all are checked before the start; above it, each option once."""
Pick = Callable[[str, Domain], str]
"""Chooses a value, as text, given a parameter's name and domain."""


@dataclass(frozen=True)
class Entry:
    """An override of the command.

    Attributes:
        key: the part before the ``=``.
        text: the whole override if it is fixed, else empty.
        domain: the domain of the key if it is swept, else ``None``.
        structural: whether it decides which settings exist: it chooses an option, or adds or deletes a key.
    """

    key: str
    text: str
    domain: Domain | None
    structural: bool

    @property
    def name(self) -> str:
        """The key without a ``+``: the name of the parameter in a study."""
        return bare(self.key)


@dataclass
class Space:
    """The search space of a sweep.

    Args:
        entries: the overrides, in the order of the command.
        tune: keys searched over the ranges in their options' files.
        compositions: the configuration under every set of options.
    """

    entries: list[Entry]
    tune: list[str]
    compositions: Compositions

    def suggest(self, trial: Any) -> list[str]:
        """Draw the overrides of a job, including fixed ones, for an Optuna trial."""
        return self.overrides(lambda name, domain: domain.suggest(trial, name))

    def job_of(self, point: dict[str, Any]) -> list[str]:
        """The overrides of the job for a point of the grid, or for the parameters of a trial."""
        return self.overrides(lambda name, domain: domain.text(point[name]))

    def overrides(self, pick: Pick) -> list[str]:
        """The overrides of a job: ``pick`` chooses the options first, then the settings that exist under them."""
        chosen = {key: pick(bare(key), domain) for key, domain in self._options().items()}
        composed = self._composed(chosen)
        job = []
        for entry in self.entries:
            if entry.key in chosen:
                job.append(f"{entry.key}={chosen[entry.key]}")
            elif self._acts(entry, composed):
                job.append(entry.text if entry.domain is None else f"{entry.key}={pick(entry.name, entry.domain)}")
        tuned = [(key, self._tuned(key, composed)) for key in self.tune if composed.has(key)]
        return [*job, *(as_change(f"{key}={pick(*found)}") for key, found in tuned)]

    def points(self) -> list[dict[str, Any]]:
        """All combinations, each as the parameters of a trial; the last setting of the command changes fastest.

        Raises:
            ValueError: a key is swept over an interval, which has no list of values.
        """
        options, points = self._options(), []
        for values in itertools.product(*[_listed(key, domain) for key, domain in options.items()]):
            first = dict(zip(options, values, strict=True))
            settings = self._settings(self._composed({key: options[key].text(value) for key, value in first.items()}))
            rows = itertools.product(*[_listed(name, domain) for name, domain in settings.items()])
            named = {bare(key): value for key, value in first.items()}
            points += [named | dict(zip(settings, row, strict=True)) for row in rows]
        return points

    def domains(self) -> dict[str, Domain]:
        """The domain of every parameter that a trial may have; options come first."""
        found = {bare(key): domain for key, domain in self._options().items()}
        for chosen in self._sets():
            found |= self._settings(self._composed(chosen))
        return found

    def searched(self) -> list[str]:
        """The keys that trials choose, without a leading ``+``."""
        return [*(entry.name for entry in self.entries if entry.domain is not None), *self.tune]

    def conditional(self) -> set[str]:
        """The parameters that exist only under some options."""
        every = [set(self._settings(self._composed(chosen))) for chosen in self._sets()]
        return {name for names in every for name in names if not all(name in others for others in every)}

    def describe(self) -> dict[str, Any]:
        """The search space for the record of a study, for JSON."""
        fixed = [entry.text for entry in self.entries if entry.domain is None]
        return {"fixed": fixed, "space": {name: domain.describe() for name, domain in sorted(self.domains().items())}}

    def examples(self) -> Iterator[list[str]]:
        """Jobs to check before a sweep begins: together they use every choice and both ends of every range."""
        for chosen in self._sets():
            options = {bare(key): text for key, text in chosen.items()}
            tried = {name: (domain, ends(domain)) for name, domain in self._settings(self._composed(chosen)).items()}
            for i in range(max([len(values) for _, values in tried.values()], default=1)):
                row = {name: domain.text(values[min(i, len(values) - 1)]) for name, (domain, values) in tried.items()}
                yield self.overrides(functools.partial(_given, options | row))

    def notes(self) -> list[str]:
        """Notes on settings that the user may not have intended."""
        lines = []
        for name in sorted(n for n in self.conditional() if "@" not in n):
            lines.append(f"{name} is searched only in trials whose options have it")
        for entry in self.entries:
            d = entry.domain
            if isinstance(d, Span) and not d.log and d.low > 0 and d.high / d.low > DECADE:
                lines.append(
                    f"{entry.key} is drawn evenly from {d.low:g} to {d.high:g}: nine in ten values lie in the last "
                    f"decade. For a log scale type {entry.key}=tag(log,interval({d.low:g},{d.high:g}))"
                )
        return lines

    def _options(self) -> dict[str, Domain]:
        return {e.key: e.domain for e in self.entries if e.structural and e.domain is not None}

    def _composed(self, chosen: dict[str, str]) -> Composed:
        """The configuration under a set of options, with all other settings at their defaults."""
        structural = [entry for entry in self.entries if entry.structural]
        return self.compositions[tuple(f"{e.key}={chosen[e.key]}" if e.key in chosen else e.text for e in structural)]

    def _sets(self) -> list[dict[str, str]]:
        """Sets that together use every option: all sets, or those that differ from the first in one group."""
        texts = {key: [domain.text(v) for v in ends(domain)] for key, domain in self._options().items()}
        if math.prod(map(len, texts.values())) <= MAX_SETS:
            return [dict(zip(texts, row, strict=True)) for row in itertools.product(*texts.values())]
        first = {key: options[0] for key, options in texts.items()}
        return [first, *(first | {key: option} for key, options in texts.items() for option in options[1:])]

    def _acts(self, entry: Entry, composed: Composed) -> bool:
        """Whether an override applies under these options. One that never applies is kept, for Hydra to refuse."""
        return entry.structural or composed.has(entry.key) or not self._fits_some(entry.key)

    def _fits_some(self, key: str) -> bool:
        return any(self._composed(chosen).has(key) for chosen in self._sets())

    def _settings(self, composed: Composed) -> dict[str, Domain]:
        """The parameters under a set of options, other than the options themselves."""
        settings = [e for e in self.entries if not e.structural and self._acts(e, composed)]
        tuned = [self._tuned(key, composed) for key in self.tune if composed.has(key)]
        return {e.name: e.domain for e in settings if e.domain is not None} | dict(tuned)

    def _tuned(self, key: str, composed: Composed) -> tuple[str, Domain]:
        """Name and domain of a tuned setting; the name includes the option if options give the key different ranges."""
        domain, option = composed.range_of(key)
        owners = {self._composed(chosen).range_of(key)[1] for chosen in self._sets() if self._composed(chosen).has(key)}
        return key if owners == {option} else f"{key}@{option}", domain


def bare(key: str) -> str:
    """A key without the leading ``+`` or ``~``."""
    return key.lstrip("+~")


def _given(values: dict[str, str], name: str, domain: Domain) -> str:
    return values[name]


def _listed(name: str, domain: Domain) -> Sequence[Any]:
    if isinstance(domain, Span):
        raise ValueError(
            f"{name}: a grid needs values, and an interval has none. Type {name}={domain.text(domain.low)},"
            f"{domain.text(domain.high)}, or another sampler: study.sampler=random."
        )
    return domain.values


def read_space(arguments: Sequence[str], place: Any, tune: Sequence[str] | None = None) -> Space:
    """Read the search space of a command, and check every option and both ends of every range.

    Args:
        arguments: the overrides, without those of ``hydra.*``.
        place: Hydra's objects for the sweep.
        tune: keys to search over the ranges in their options' files.

    Raises:
        ValueError: an option, a key or a value is invalid, or a tuned key has no range.
    """
    from mltricks.launch.check import check_jobs

    loader = place.context.config_loader
    entries = [_entry(override, loader) for override in _parsed(arguments, loader)]
    compositions = Compositions(loader, place.config)
    space = Space(entries, list(tune or ()), compositions)
    _check_tune(space)
    check_jobs([(job, compositions.plain(job)) for job in space.examples()])
    return space


def _parsed(arguments: Sequence[str], loader: Any) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    last = {
        o.get_key_element(): o for o in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    }
    return list(last.values())


def _entry(override: Any, loader: Any) -> Entry:
    key = override.get_key_element()
    swept = override.is_sweep_override()
    is_group = bool(loader.get_group_options(override.key_or_group))
    structural = is_group or override.is_delete() or (key.startswith("+") and not swept)
    if swept and is_group and not override.is_choice_sweep():
        raise ValueError(f"{shown(override)}: {override.key_or_group} has options, not numbers. Name the options.")
    if swept:
        return Entry(key, "", domain_of(override), structural)
    text = override.input_line if override.is_delete() else f"{key}={override.get_value_element_as_str()}"
    return Entry(key, text, None, structural)


def _check_tune(space: Space) -> None:
    typed = {as_typed(f"{entry.name}=").removesuffix("=") for entry in space.entries}
    for key in space.tune:
        if key in typed:
            raise ValueError(f"tune={key} and {key}=... are both given. Leave one of them out.")
        composed = [space._composed(chosen) for chosen in space._sets()]
        ranges = sorted({known for c in composed for known in c.ranges})
        if not any(c.has(key) for c in composed):
            same = [name for name in ranges if name.rpartition(".")[2] == key.rpartition(".")[2]]
            same = same or difflib.get_close_matches(key, ranges, n=2, cutoff=NEAR)
            near = f" Did you mean {' or '.join(same)}?" if same else ""
            raise ValueError(
                f"tune={key}: {key} is no setting under these options.{near} Keys with a range: {', '.join(ranges)}."
            )
        for c in composed:
            if c.has(key):
                c.range_of(key)
