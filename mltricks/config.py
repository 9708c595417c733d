"""Composing the configuration and turning its nodes into objects."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.values import check_value, suggest

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = (
    "data model objective optim scheduler sampler init engine tracker job augment regularizer technique precision experiment"
).split()
TRUSTED = ("mltricks", "torch")
"""Packages whose members ``_target_`` may always name."""


def conf_dir() -> Path:
    """The folder of the configuration: inside the installed package, or beside it in a clone."""
    here = Path(__file__).resolve().parent
    inside = here / "conf"
    return inside if inside.is_dir() else here.parent / "conf"


def compose(overrides: Sequence[str] = (), config_dir: str | None = None) -> DictConfig:
    """The configuration of a run, as the command line with the same overrides would compose it.

    Args:
        overrides: ``["technique=mixup", "optim.lr=3e-3"]``.
        config_dir: a folder of options of your own, laid out as ``conf/``.

    Raises:
        ValueError: an unknown group, option or key, with the nearest names.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from mltricks.overrides import check_overrides

    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    check_overrides(overrides, folders)
    searchpath = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir())):
        return hydra_compose("config", [*searchpath, *overrides])


def plain(cfg: Any) -> dict[str, Any]:
    """A configuration as nested dicts and lists, interpolations resolved, the ``hydra`` node left out."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(cfg, DictConfig):
        return dict(cfg)
    tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(tree, dict), "a configuration is a mapping"
    tree.pop("hydra", None)
    return {str(key): value for key, value in tree.items()}


def locate(target: str, key: str, allow: Sequence[str]) -> Any:
    """The class or function that ``_target_`` names.

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
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{key}._target_={target} cannot be imported: {error}") from error


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
    from hydra.utils import instantiate

    target = locate(node["_target_"], key, allow)
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    for name in arguments:
        if name not in parameters and not takes_any:
            raise ValueError(f"{key}.{name} is no setting of {node['_target_']}. {suggest(name, parameters)}")
    if dataclasses.is_dataclass(target):
        _check(target, arguments, key)
    extra = {name: value for name, value in extra.items() if name in parameters and name not in arguments}
    trusted = tuple(f"{package}.*" for package in (*TRUSTED, *allow))
    plan = {"_target_": node["_target_"], "_recursive_": False, "_convert_": "all", **arguments}
    return instantiate(plan, **extra, _execution_whitelist_=trusted)


def _check(target: Any, arguments: dict[str, Any], key: str) -> None:
    from mltricks.values import _hints

    for name, value in arguments.items():
        check_value(f"{key}.{name}", value, _hints(target)[name])
    missing = [
        f.name
        for f in dataclasses.fields(target)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in arguments
    ]
    if missing:
        raise ValueError(f"{key}.{missing[0]} is missing. Type {key}.{missing[0]}=VALUE.")
