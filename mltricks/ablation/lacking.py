"""Which settings of the command an option does not have: ``optim.momentum`` is none of ``optim=adamw``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mltricks.ablation.design import Design, key_of
from mltricks.config.options import TECHNIQUE_GROUPS
from mltricks.sweep.option_sets import Compositions


def with_lacks(design: Design, retune: Sequence[str], place: Any) -> Design:
    """The design with the settings that each value of a factor lacks; a setting that all lack is left to its check.

    Args:
        design: the parsed command.
        retune: keys of the settings that are tuned.
        place: where the sweep runs.
    """
    compositions = Compositions(place.context.config_loader, place.config)
    keys = {key_of(text) for text in design.fixed if text.startswith("++") or not text.startswith(("+", "~"))}
    keys |= {factor.key for factor in design.factors} | set(retune)
    lacks: dict[str, frozenset[str]] = {}
    for factor in design.factors:
        own = {key for key in keys if key.startswith(f"{factor.key}.")}
        if not own or factor.key in TECHNIQUE_GROUPS:
            continue
        found = {text: {key for key in own if not compositions[(text,)].has(key)} for text in factor.overrides}
        by_all = set.intersection(*found.values())
        lacks |= {text: frozenset(missing - by_all) for text, missing in found.items()}
    return replace(design, lacks=lacks)
