"""Turning nodes of the configuration into objects, and refusing those that nobody may make."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from mltricks.config.values import UnknownName, check_value, suggest

TRUSTED = ("mltricks", "torch")
"""Packages whose members ``_target_`` may always name."""
ZOOS = ("torchvision", "timm")
"""Packages whose models our own constructors return; Hydra asks for the class of what is returned too."""
OF_TORCH = ("torch.nn.", "torch.optim.", "torch.utils.data.")
"""Where in torch."""
SWITCH = re.compile("_[a-z_]+_")
"""Names that Hydra reads as orders about how to make an object."""
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def locate(target: str, key: str, allow: Sequence[str]) -> Any:
    """The class or function that ``_target_`` names.

    A package re-exports much that is not its own (``torch.os``), so what counts is where the object was defined. Of
    torch only classes may be named that are there to be configured, and of mltricks only what belongs to a group: some
    of the rest runs other programs.

    Raises:
        ValueError: its package is not trusted, or there is no such thing.
    """
    package = target.partition(".")[0]
    if package not in (*TRUSTED, *allow):
        raise ValueError(
            f"{key}._target_={target} is refused: only {', '.join((*TRUSTED, *allow))} may be named. "
            f"If you trust it, type allow_modules=[{package}]."
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{key}._target_={target} cannot be imported: {error}") from error
    if not _may_be_named(found, allow):
        home = getattr(found, "__module__", None) or type(found).__name__
        raise ValueError(f"{key}._target_={target} is refused: it is no class to be configured, and comes from {home}.")
    return found


def _may_be_named(found: Any, allow: Sequence[str]) -> bool:
    home = getattr(found, "__module__", None) or ""
    package = home.partition(".")[0]
    if not callable(found) or inspect.ismodule(found):
        return False
    if package in allow:
        return True
    if package == "mltricks":
        in_group = home.count(".") > 1 or home in ("mltricks.jobs", "mltricks.engine")
        return in_group and (inspect.isclass(found) or inspect.isfunction(found))
    return package == "torch" and inspect.isclass(found) and f"{home}.".startswith(OF_TORCH)


def create(node: dict[str, Any], key: str, allow: Sequence[str] = (), **extra: Any) -> Any:
    """Make the object that a node of the configuration describes: the one place that instantiates.

    Args:
        node: ``_target_`` and its arguments.
        key: where the node stands in the configuration, for messages.
        allow: packages besides mltricks and torch that may be named.
        extra: arguments the program knows; given where the constructor names them, and an error nowhere.

    Raises:
        ValueError: an unknown argument, a value of the wrong type or out of range, a target that is not trusted.
    """
    target = locate(given_target(node, key), key, allow)
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
                f"{key}.{name} is missing. Type {key}.{name}=VALUE, with a + in front where the option lacks the line."
            )
    if target.__module__.startswith("mltricks."):  # ours: all that Hydra would look at has been looked at
        return target(**arguments, **extra)
    from hydra.utils import instantiate

    trusted = tuple(f"{package}.*" for package in (*TRUSTED, *ZOOS, *allow))
    plan = {"_target_": node["_target_"], "_recursive_": False, "_convert_": "all", **arguments}
    return instantiate(plan, **extra, _execution_whitelist_=trusted)


def given_target(node: Any, key: str) -> str:
    """The ``_target_`` of a node.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        raise ValueError(
            f"{key} names nothing to be made: {key}._target_ is missing. Type {key}=OPTION, or {key}._target_=CLASS."
        )
    return node["_target_"]


def refuse_unknown(
    key: str, target: str, arguments: Iterable[str], parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Refuse arguments that a constructor does not name, and Hydra's own switches such as ``_partial_``.

    Raises:
        UnknownName: with the nearest names.
    """
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if (name not in parameters and not takes_any) or SWITCH.fullmatch(name):
            raise UnknownName(f"{key}.{name} is no setting of {target}. {suggest(name, parameters)}")


def check_nested(value: Any, key: str, allow: Sequence[str]) -> None:
    """Refuse a ``_target_`` that is not trusted anywhere inside a value, whoever may come to read it.

    Raises:
        ValueError: names the key.
    """
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str):
            locate(value["_target_"], key, allow)
        for name, inner in value.items():
            check_nested(inner, f"{key}.{name}", allow)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_nested(inner, f"{key}[{i}]", allow)


def _check(target: Any, arguments: dict[str, Any], key: str) -> None:
    from mltricks.config.values import field_hints

    for name, value in arguments.items():
        check_value(f"{key}.{name}", value, field_hints(target)[name])
