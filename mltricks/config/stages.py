"""The node ``stages`` of the configuration: runs in a row, each a list of overrides as they are typed.

``stages.NAME.KEY=VALUE`` changes one stage. Hydra receives it as ``++stages.changes.NAME.KEY=VALUE``, since a list has
no keys. The choice of an option, ``stages.NAME.GROUP=OPTION``, and a value in braces are kept under ``_value_``: beside
the settings of the option, and as they are. What ``+stages.NAME.KEY=VALUE`` adds is kept under ``_added_``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mltricks.config.options import GROUPS
from mltricks.config.values import UnknownName, suggest

SETTINGS = ("only", "from", "done")
"""The settings of the node that are no stages."""
RESERVED = (*SETTINGS, "changes", "command")
"""All keys of the node that are no stages: ``command`` holds the overrides that all stages share."""
LIST = "stages.json"
"""Name of the file with the stages, which marks the folder of a run of stages."""
FOLDERS = ("checkpoints", "plots", "stages", "wandb", "tensorboard")
"""Folders in that of a run or a sweep, which no stage may have as its own."""
WHOLE = "_value_"
ADDED = "_added_"
NAME = re.compile(r"[A-Za-z_]\w*")


def stage_names(node: Mapping[str, Any] | None) -> list[str]:
    """The names of the stages, in order; none for a configuration of one run."""
    return [str(name) for name in node or {} if name not in RESERVED]


def as_change(override: str) -> str:
    """An override as Hydra takes it, if it changes a stage; any other is unchanged.

    >>> as_change("stages.finetune.optim.lr=0.1"), as_change("stages.finetune.optim=sgd"), as_change("stages.only=a")
    ('++stages.changes.finetune.optim.lr=0.1', '++stages.changes.finetune.optim._value_=sgd', 'stages.only=a')
    """
    typed, equals, value = override.partition("=")
    first, *path = typed.lstrip("+").split(".")
    if first != "stages" or len(path) < 2 or path[0] in RESERVED or not equals:
        return override
    inner = ".".join(path[1:])
    key = f"{inner}.{WHOLE}" if inner in GROUPS or value.startswith("{") else inner
    key = f"{inner}.{ADDED}" if typed.startswith("+") else key
    return f"++stages.changes.{path[0]}.{key}={value}"


def as_typed(override: str) -> str:
    """An override that changes a stage, as it is typed; any other is unchanged: the inverse of ``as_change``.

    >>> as_typed("++stages.changes.finetune.optim._value_=sgd"), as_typed("+model.width=8")
    ('stages.finetune.optim=sgd', '+model.width=8')
    """
    key, equals, value = override.partition("=")
    if not key.lstrip("+").startswith("stages.changes."):
        return override
    inner = key.lstrip("+").removeprefix("stages.changes.").removesuffix(f".{WHOLE}")
    plus = "+" if inner.endswith(f".{ADDED}") else ""
    return f"{plus}stages.{inner.removesuffix(f'.{ADDED}')}{equals}{value}"


def inner_key(key: str) -> str:
    """The key that a change of a stage sets in it: ``optim.lr`` of ``stages.finetune.optim.lr``; others as they are."""
    first, _, rest = key.partition(".")
    name, _, inner = rest.partition(".")
    return inner if first == "stages" and inner and name not in RESERVED else key


def keep_references() -> None:
    """Let OmegaConf keep ``${stage:NAME}`` as it is: its value is known only when the stages are planned."""
    from omegaconf import OmegaConf

    OmegaConf.register_resolver("stage", lambda name: f"${{stage:{name}}}", replace=True)


def check_stages(node: Any) -> None:
    """Refuse a node that lists no stages properly.

    Raises:
        ValueError: a name or a list is wrong, or a setting names no stage.
    """
    if not isinstance(node, dict):
        raise ValueError(f"stages={node}: stages has settings of its own. Choose an experiment that lists stages.")
    names = stage_names(node)
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"stages.{name}: the name of a stage has letters, digits and _ alone.")
        if name in FOLDERS:
            raise ValueError(f"stages.{name}: a run has a folder {name} of its own. Give the stage another name.")
        if not isinstance(node[name], list) or not all(isinstance(text, str) for text in node[name]):
            raise ValueError(f"stages.{name}={node[name]}: a stage is a list of overrides. Type [KEY=VALUE,KEY=VALUE].")
    given = [f"stages.{key}={node[key]}" for key in SETTINGS if node.get(key) is not None]
    if given and not names:
        raise ValueError(f"{given[0]} has no effect: this command has no stages. Choose an experiment that lists some.")
    for key in ("only", "from"):
        if node.get(key) is not None and node[key] not in names:
            raise UnknownName(f"stages.{key}={node[key]} is no stage. {suggest(str(node[key]), names)}")
    for name in node.get("changes") or {}:
        if name not in names:
            raise UnknownName(f"stages.{name}: there is no stage {name}. {suggest(name, names)}")
    if node.get("only") is not None and node.get("from") is not None:
        raise ValueError("stages.only and stages.from exclude each other. Type one of them.")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
