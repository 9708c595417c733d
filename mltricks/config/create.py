"""Instantiate the objects that configuration nodes describe, and refuse classes that are not allowed."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from mltricks.config.options import conf_dir
from mltricks.config.values import UnknownName, check_value, suggest

HOMES: dict[str, tuple[str, ...]] = {
    "data": ("mltricks.data.", "torch.utils.data."),
    "input": ("mltricks.inputs.",),
    "model": ("mltricks.models.", "torch.nn."),
    "objective": ("mltricks.objectives.",),
    "optim": ("mltricks.optim.",),
    "scheduler": ("mltricks.schedules.",),
    "sampler": ("mltricks.samplers.",),
    "init": ("mltricks.inits.",),
    "engine": ("mltricks.engine.",),
    "technique": ("mltricks.techniques.",),
    "tracker": ("mltricks.observers.",),
    "job": ("mltricks.jobs.", "mltricks.probes.", "mltricks.comparison."),
}
"""The modules that define each group's classes: a node may name only these classes of mltricks and torch.

A configuration may come from a checkpoint that a stranger made, and instantiating a class runs its code. So the rule is
narrow, and only the command or the caller can widen it, with ``allow_modules``.
"""
BY_NAME = {
    ("optim", "torch.optim"): ("torch",),
    ("optim", "timm.optim"): ("timm",),
    ("scheduler", "torch.optim.lr_scheduler"): ("torch",),
    ("objective", "torch.nn"): ("torch_classify", "torch_regress"),
}
"""The options that take a class of a package by its name."""
TRUSTED = ("mltricks", "torch")
"""Packages that ``HOMES`` allows in part."""
ZOOS = ("torchvision", "timm")
"""Packages whose classes a user's constructor may return: Hydra checks the class of the returned object as well."""
SWITCH = re.compile("_[a-z_]+_")
"""Matches keys that Hydra reads as instructions for instantiation, such as ``_partial_``."""
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def locate(target: str, key: str, allow: Sequence[str], group: str | None = None) -> Any:
    """Import the class or function that ``_target_`` names.

    Args:
        target: dotted path.
        key: the node's place in the configuration, for messages; its first part is the group.
        allow: packages that the command or the caller allows.
        group: the group, if it is not the first part of ``key``.

    Raises:
        ValueError: this group may not name it, or it does not exist.
    """
    package, group = target.partition(".")[0], group or key.partition(".")[0]
    homes = HOMES.get(group, ())
    if package not in (*TRUSTED, *allow):
        raise ValueError(
            f"{key}._target_={target} is refused: only {', '.join((*TRUSTED, *allow))} may be named. "
            f"If you trust it, type allow_modules={package}."
        )
    if package in TRUSTED and not target.startswith(homes):
        raise ValueError(
            f"{key}._target_={target} is refused: {group} takes classes of {' and '.join(h[:-1] for h in homes)}, "
            f"or of a package of yours that allow_modules=... names.{by_name(group, target)}"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{key}._target_={target} cannot be imported: {error}") from error
    if not _may_be_named(found, group, allow):
        home = getattr(found, "__module__", None) or type(found).__name__
        raise ValueError(f"{key}._target_={target} is refused: it is no configurable class (it is defined in {home}).")
    return found


def by_name(group: str, target: str) -> str:
    """What to type for a class of torch that an option of the group takes by its name; else nothing."""
    package, _, name = target.rpartition(".")
    options = BY_NAME.get((group, package), ())
    return (
        f" Type {' or '.join(f'{group}={option}' for option in options)} with {group}.name={name}." if options else ""
    )


def _may_be_named(found: Any, group: str, allow: Sequence[str]) -> bool:
    """Whether a group may name an object, judged by its defining module: packages re-export others (``torch.os``)."""
    home = f"{getattr(found, '__module__', None) or ''}."
    package = home.partition(".")[0]
    if not callable(found) or inspect.ismodule(found):
        return False
    if package not in TRUSTED:
        return package in allow
    if not home.startswith(HOMES.get(group, ())):
        return False
    if inspect.isfunction(found):
        makes_model = group == "model" and package == "mltricks" and found.__name__.startswith("create_")
        return makes_model or (group == "job" and _is_job(found))
    return inspect.isclass(found) and group != "job"


def _is_job(found: Any) -> bool:
    """Whether a function has the signature of a job, which helpers in the same module lack."""
    return list(inspect.signature(found).parameters) == ["cfg", "folder", "overrides", "mode"]


def create(node: dict[str, Any], key: str, allow: Sequence[str] = (), group: str | None = None, **extra: Any) -> Any:
    """Instantiate the object that a configuration node describes; all objects are made here.

    Args:
        node: ``_target_`` and its arguments.
        key: the node's place in the configuration, for messages.
        allow: packages besides mltricks and torch that the node may name.
        group: its group, if that is not the first part of ``key``.
        extra: arguments from the program; those that the constructor does not name are dropped.

    Raises:
        ValueError: an unknown argument, a value of the wrong type or out of range, or a target that is not allowed.
    """
    target = locate(given_target(node, key), key, allow, group)
    parameters = inspect.signature(target).parameters
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    refuse_unknown(key, node["_target_"], arguments, parameters)
    check_nested(arguments, key, allow)
    if dataclasses.is_dataclass(target):
        _check(target, arguments, key)
    extra = {name: value for name, value in extra.items() if name in parameters and name not in arguments}
    for name, parameter in parameters.items():
        if (
            parameter.default is parameter.empty
            and parameter.kind not in VARIADIC
            and name not in {**arguments, **extra}
        ):
            raise ValueError(
                f"{key}.{name} is missing. Type {key}.{name}=VALUE, with a leading + if the option lacks the key."
            )
    if target.__module__.startswith("mltricks."):  # our own class: the checks above cover those of Hydra
        return target(**arguments, **extra)
    from hydra.utils import instantiate

    trusted = tuple(f"{package}.*" for package in (*TRUSTED, *ZOOS, *allow))
    plan = {"_target_": node["_target_"], "_recursive_": False, "_convert_": "all", **arguments}
    return instantiate(plan, **extra, _execution_whitelist_=trusted)


def is_given(node: Any) -> bool:
    """Whether a node stands for an object that a Python program gave: ``Given`` of ``data/`` or ``models/``."""
    return isinstance(node, dict) and str(node.get("_target_")).endswith(".given.Given")


def given_target(node: Any, key: str) -> str:
    """The ``_target_`` of a node.

    Raises:
        ValueError: the node has none.
    """
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        raise ValueError(
            f"{key} names no class: {key}._target_ is missing. Type {key}=OPTION, or {key}._target_=CLASS."
        )
    return node["_target_"]


def refuse_unknown(
    key: str, target: str, arguments: Iterable[str], parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Refuse arguments that a constructor does not name, and Hydra's own switches such as ``_partial_``.

    Raises:
        UnknownName: suggests the nearest names.
    """
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if (name not in parameters and not takes_any) or SWITCH.fullmatch(name):
            raise UnknownName(
                f"{key}.{name} is no setting of {target}. {suggest(name, parameters)}{foreign(key, target)}"
            )


def foreign(key: str, target: str) -> str:
    """What to type for a class of the user's, which has not got the settings of the option that it replaces."""
    if target.startswith("mltricks.") or not (conf_dir() / key / "custom.yaml").is_file():
        return ""
    return f" For a class of your own, type {key}=custom {key}._target_={target}."


def check_nested(value: Any, key: str, allow: Sequence[str]) -> None:
    """Refuse any nested ``_target_`` that no group except ``job`` may name, because other code may instantiate it.

    Raises:
        ValueError: names the key.
    """
    if isinstance(value, dict):
        if isinstance(target := value.get("_target_"), str):
            owner = next((g for g, homes in HOMES.items() if g != "job" and target.startswith(homes)), None)
            locate(target, key, allow, owner)
        for name, inner in value.items():
            check_nested(inner, f"{key}.{name}", allow)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_nested(inner, f"{key}[{i}]", allow)


def _check(target: Any, arguments: dict[str, Any], key: str) -> None:
    from mltricks.config.values import field_hints

    for name, value in arguments.items():
        check_value(f"{key}.{name}", value, field_hints(target)[name])
