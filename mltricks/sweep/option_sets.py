"""Compositions: for a set of options, the settings that exist and the search ranges in the options' files."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltricks.config.options import GROUPS, called
from mltricks.config.stages import stage_names
from mltricks.sweep.ranges import Domain, parse_comment


@dataclass
class Composed:
    """The configuration under a set of options.

    Attributes:
        tree: the configuration, interpolations unresolved.
        options: the chosen option of every group.
        ranges: for every setting whose comment has ``search:``, its domain and the option whose file has the comment.
    """

    tree: dict[str, Any]
    options: dict[str, str]
    ranges: dict[str, tuple[Domain, str]]

    def has(self, key: str) -> bool:
        """Whether a setting of this key exists."""
        node: Any = self.tree
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return True

    def range_of(self, key: str) -> tuple[Domain, str]:
        """Return the domain of a setting, and the option whose file gives it.

        Raises:
            ValueError: the setting's comment has no range; the message lists the keys that have one.
        """
        if key not in self.ranges:
            group = key.partition(".")[0]
            owner = f" under {group}={self.options[group]}" if isinstance(self.options.get(group), str) else ""
            raise ValueError(
                f"tune={key}: {key} has no range of its own{owner}. Give one: {key}=interval(LOW,HIGH). "
                f"Keys with a range: {', '.join(sorted(self.ranges))}."
            )
        return self.ranges[key]


@dataclass
class Compositions:
    """Configurations by the overrides that choose their options. Each set of options is composed once.

    Args:
        loader: Hydra's config loader.
        config: configuration of the sweep.
    """

    loader: Any
    config: Any
    _known: dict[tuple[str, ...], Composed] = field(default_factory=dict)

    def __getitem__(self, overrides: tuple[str, ...]) -> Composed:
        if overrides not in self._known:
            self._known[overrides] = self._compose(overrides)
        return self._known[overrides]

    def plain(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The configuration of a job as nested dicts, interpolations resolved."""
        return self._composer.job(0, overrides).cfg

    @functools.cached_property
    def _composer(self) -> Any:
        from mltricks.launch.compose import Composer

        return Composer(self.loader, self.config)

    def _compose(self, overrides: Sequence[str]) -> Composed:
        from omegaconf import OmegaConf

        config = self._composer.patch(0, overrides).config()
        choices = config.hydra.runtime.choices
        tree = OmegaConf.to_container(config, resolve=False)
        assert isinstance(tree, dict), "a configuration is a mapping"
        del tree["hydra"]
        options = {str(group): option for group, option in choices.items() if option is not None}
        composed = Composed({str(k): v for k, v in tree.items()}, options, read_ranges(self.folders(), options, tree))
        return self._with_stages(composed, overrides) if stage_names(tree["stages"]) else composed

    def _with_stages(self, composed: Composed, overrides: Sequence[str]) -> Composed:
        """Add the settings and ranges of every stage, as ``stages.NAME.KEY``."""
        from mltricks.jobs import own_searchpath
        from mltricks.stages.plan import plan

        node = self.plain(overrides)["stages"]
        trees, ranges = dict[str, Any](), dict(composed.ranges)
        for stage in plan(node, [*own_searchpath(), *overrides], Path(), None):
            nodes = {group: stage.cfg.get(group) or {} for group in GROUPS}
            chosen = {group: called(node) for group, node in nodes.items() if node.get("_target_")}
            found = read_ranges(self.folders(), chosen, stage.cfg)
            ranges |= {f"stages.{stage.name}.{key}": pair for key, pair in found.items()}
            trees[stage.name] = stage.cfg
        return Composed({**composed.tree, "stages": {**composed.tree["stages"], **trees}}, composed.options, ranges)

    def folders(self) -> list[Path]:
        """The folders that hold option files: ``conf``, and the user's own."""
        sources = self.config.hydra.runtime.config_sources
        return [Path(source.path) for source in sources if source.schema == "file"]


def read_ranges(folders: Sequence[Path], options: dict[str, str], tree: Any) -> dict[str, tuple[Domain, str]]:
    """Read the search ranges of existing settings from the files of the chosen options.

    Args:
        folders: folders that hold option files.
        options: the chosen option of every group.
        tree: the configuration.
    """
    chosen = [(group, option) for group, option in options.items() if group in GROUPS and group != "technique"]
    chosen += [("technique", name) for name in tree.get("technique", {})]
    found: dict[str, tuple[Domain, str]] = {}
    for group, option in chosen:
        for key, domain in ranges_of_file(folders, group, option).items():
            found[key] = (domain, option)
    return {key: pair for key, pair in found.items() if key.split(".")[0] in tree} | _top_level(folders)


def ranges_of_file(folders: Sequence[Path], group: str, option: str) -> dict[str, Domain]:
    """Read the search ranges in an option's file, by full key."""
    from mltricks.config.cards import read_card

    path = next((p for folder in folders if (p := folder / group / f"{option}.yaml").is_file()), None)
    if path is None:
        return {}
    found = [(key, parse_comment(meaning)) for key, _, meaning in read_card(path, folders).values]
    return {key: domain for key, domain in found if domain is not None}


def _top_level(folders: Sequence[Path]) -> dict[str, tuple[Domain, str]]:
    from mltricks.config.cards import read_values

    path = next((p for folder in folders if (p := folder / "config.yaml").is_file()), None)
    text = path.read_text(encoding="utf-8") if path else ""
    found = [(key, parse_comment(meaning)) for key, _, meaning in read_values(text, "") if not key.startswith("hydra")]
    return {key: (domain, "config") for key, domain in found if domain is not None}
