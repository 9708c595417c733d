"""The result of the recipe: the best configuration, as a command and as an ``experiment`` option."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.config.names import command
from mltricks.process.atomic import write_atomically
from mltricks.sweep.outcome import Outcome

PLACE = Path("conf/experiment/best.yaml")
"""The ``experiment`` option, in the sweep's folder; run it with ``--config-dir FOLDER/conf experiment=best``."""


def experiment(overrides: Sequence[str], groups: Sequence[str], header: Sequence[str]) -> str:
    """The overrides of a command as the text of an ``experiment`` option.

    Args:
        overrides: the overrides of the command.
        groups: names of configuration groups.
        header: lines of the comment at the top.
    """
    from omegaconf import OmegaConf

    defaults: list[Any] = []
    body = OmegaConf.create({})
    for override in parsed(overrides):
        key, value = override.key_or_group, override.get_value_element_as_str()
        if key == "experiment":
            defaults.insert(0, value)
        elif key in groups:
            chosen = OmegaConf.create(f"v: {value}").v
            defaults.append({f"override /{key}": OmegaConf.to_container(chosen) if is_list(chosen) else chosen})
        elif not override.is_delete():
            OmegaConf.update(body, key, plain(override.value()), force_add=True)
    top = ["# @package _global_", *(f"# {line}" for line in header)]
    parts = [OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults}))] if defaults else []
    return "\n".join([*top, *parts, OmegaConf.to_yaml(body) if len(body) else ""])


def parsed(overrides: Sequence[str]) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(list(overrides))


def is_list(value: Any) -> bool:
    from omegaconf import ListConfig

    return isinstance(value, ListConfig)


def plain(value: Any) -> Any:
    """A value of an override in YAML syntax."""
    if isinstance(value, dict):
        return {getattr(key, "text", key): plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return getattr(value, "text", value)


def write_best(folder: Path, overrides: Sequence[str], groups: Sequence[str], outcome: Outcome) -> dict[str, Any]:
    """Write the experiment; return the record of the best configuration for ``recipe.json``.

    Args:
        folder: the sweep's folder.
        overrides: the overrides of the best run.
        groups: names of configuration groups.
        outcome: the outcome of the best run.
    """
    objective = outcome.summary.objective
    tested = ", ".join(f"{name} {value:.4f}" for name, value in outcome.summary.test.items())
    use = command(["experiment=best"], ["--config-dir", str((folder / PLACE).parent.parent)])
    header = [
        "The best configuration that the recipe (seven steps of tuning) found",
        use,
        f"Result: {objective['name']} {objective['value']:.4f}; test {tested}; job {outcome.num}",
    ]
    text = experiment(overrides, groups, header)
    write_atomically(folder / PLACE, lambda partial: partial.write_text(text, encoding="utf-8"))
    return {
        "command": command(overrides),
        "experiment": PLACE.as_posix(),
        "experiment_command": use,
        "job": outcome.num,
        "objective": objective,
        "test": outcome.summary.test,
    }
