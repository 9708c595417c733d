"""Compose the configuration of a run, and explain errors of composition."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.config.check import check_overrides
from mltricks.config.known import OF_FOLDERS, all_settings
from mltricks.config.names import with_brackets
from mltricks.config.options import GROUPS, TECHNIQUE_GROUPS, conf_dir
from mltricks.config.overrides import choices, own_folders, parse
from mltricks.config.stages import as_change, keep_references, stage_names
from mltricks.config.values import UnknownName, suggest

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose(overrides: Sequence[str] = (), config_dir: str | None = None) -> DictConfig:
    """Compose the configuration of a run, exactly as the command line does with the same overrides.

    Args:
        overrides: ``["technique=mixup", "optim.lr=3e-3"]``.
        config_dir: a folder with your own options, laid out as ``conf/``.

    Raises:
        ValueError: an unknown group, option or key; the message suggests the nearest names.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    own = {"--config-dir": config_dir} if config_dir else {}
    if isinstance(overrides, str):
        raise ValueError(f"overrides={overrides!r} is a single text. Give a list: mltricks.compose([{overrides!r}]).")
    overrides = [as_change(with_brackets(text)) for text in overrides]
    check_overrides(overrides, [conf_dir(), *own_folders(overrides, own)])
    searchpath = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    keep_references()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir())):
            return with_command(hydra_compose("config", [*searchpath, *overrides]), [*searchpath, *overrides])
    except HydraException as error:
        better = explain(error, overrides, config_dir)
        raise better if better is not error else ValueError(str(error)) from error
    finally:
        GlobalHydra.instance().hydra = before


def with_command(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration with the overrides from which its stages are composed, if it has stages."""
    from omegaconf import open_dict

    if stage_names(cfg.stages):
        with open_dict(cfg):
            cfg.stages.command = list(overrides)
    return cfg


def plain(cfg: Any) -> dict[str, Any]:
    """Convert a configuration to nested dicts and lists, with interpolations resolved and without the ``hydra`` node.

    Raises:
        ValueError: a mandatory value is missing, or ``cfg`` is no configuration.
    """
    from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

    if not isinstance(cfg, DictConfig):
        if not isinstance(cfg, Mapping):
            raise ValueError(f"cfg is a {type(cfg).__name__}. Give the result of mltricks.compose([...]).")
        return dict(cfg)
    keep_references()
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key} is missing. Type {error.full_key}=VALUE.") from error
    assert isinstance(tree, dict), "a configuration is a mapping"
    tree.pop("hydra", None)
    return {str(key): value for key, value in tree.items()}


PLUGINS = ("joblib", "ray", "ray_aws", "submitit_local", "submitit_slurm")
"""Launchers of packages that only ``mltricks[launchers]`` installs."""


def explain(error: Exception, overrides: Sequence[str], config_dir: str | None) -> Exception:
    """Replace Hydra's error about a key that does not exist with a clearer one; return other errors unchanged."""
    found = re.search(
        r"Could not override '([^']+)'|Could not delete from config\. '([^']+)' does not exist", str(error)
    )
    if found is None:
        missing = re.search(
            r"Could not find '([^']+)/([^'/]+)'.*?Available options in '[^']+':\n((?:\t\S+\n)+)", str(error), re.S
        )
        if missing is None:
            return error
        group, name, options = missing.groups()
        if group == "hydra/launcher" and name in PLUGINS:
            return UnknownName(f"{group}={name} is a plug-in of Hydra. Type: pip install 'mltricks[launchers]'")
        return UnknownName(f"{group} has no option {name}. {suggest(name, options.split())}")
    key = found.group(1) or found.group(2)
    typed = next((o for o in overrides if o.lstrip("+~").split("=")[0] == key), key)
    outer, _, last = key.rpartition(".")
    first, *path = key.split(".")
    if first in TECHNIQUE_GROUPS and path and (first != "technique" or len(path) > 1):
        return _explain_technique(typed, key, first, path, config_dir)
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    if having := [s for s in all_settings(tuple(folders)) if s.key == key and s.option]:
        options = [f"{'-m ' if s.option.startswith('hydra/') else ''}{s.option} {s.typed}" for s in having[:3]]
        texts = [f"{option} (default {s.default})" for option, s in zip(options, having[:3], strict=True)]
        return UnknownName(f"{typed}: {key} is a setting of other options. Did you mean {' or '.join(texts)}?")
    if places := difflib.get_close_matches(key, OF_FOLDERS, n=1):
        return UnknownName(f"{typed}: {key} is no setting. Did you mean {places[0]}?")
    if first == "hydra":
        return UnknownName(f"{typed}: {key} is no setting. {suggest(last, _of_hydra(path[:-1], overrides))}")
    from omegaconf import DictConfig, OmegaConf

    chosen = [f"{o.key_or_group}={name}" for o in _groups_of(overrides) for name in list(choices(o.value()))[:1]]
    composed = compose(chosen, config_dir)
    if empty := _null_above(composed, key):
        return UnknownName(f"{typed}: {empty} is null. To add to it, type +{typed.lstrip('+~')}.")
    node = OmegaConf.select(composed, outer) if outer else None
    node = node if isinstance(node, DictConfig) else OmegaConf.create({})
    known = {str(k): v for k, v in node.items_ex(resolve=False) if str(k)[0] != "_"}
    near = suggest_settings(last, outer, known)
    own = outer in GROUPS and (conf_dir() / outer / "custom.yaml").is_file() and not near.startswith("Did")
    more = f" With {outer}=custom, a setting of your own class is added: +{typed.lstrip('+~')}." if own else ""
    return UnknownName(f"{typed}: {key} is no setting. {near}{more}")


def _null_above(cfg: DictConfig, key: str) -> str:
    """The setting above a dotted key that is null, such as optim.groups, which may hold others; empty without one."""
    from omegaconf import OmegaConf

    outer = key.rpartition(".")[0]
    while outer:
        above, _, name = outer.rpartition(".")
        node = OmegaConf.select(cfg, above) if above else cfg
        if OmegaConf.is_dict(node) and name in node:
            return outer if not OmegaConf.is_missing(node, name) and node[name] is None else ""
        outer = above
    return ""


def suggest_settings(word: str, outer: str, known: Mapping[str, Any]) -> str:
    """A sentence with the settings of a node nearest to a word, or with all of them, each with its default."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    texts = [f"{outer}.{name} (default {'null' if known[name] is None else known[name]})" for name in near or known]
    return f"Did you mean {' or '.join(texts)}?" if near else f"Known: {', '.join(texts)}." if texts else ""


def _of_hydra(path: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The settings of the chosen launcher or sweeper, if it is one of ours."""
    import yaml

    from mltricks.config.shorthand import chosen_sweeper

    group = "/".join(["hydra", *path])
    launcher = [o.partition("=")[2] for o in overrides if o.startswith("hydra/launcher=")]
    option = {"hydra/sweeper": chosen_sweeper(overrides), "hydra/launcher": [*launcher, "local"][0]}.get(group, "")
    file = conf_dir() / group / f"{option}.yaml"
    return [key for key in yaml.safe_load(file.read_text()) if key[0] != "_"] if option and file.is_file() else []


def _groups_of(overrides: Sequence[str]) -> Iterable[Any]:
    return [
        o
        for o in parse(overrides)
        if o.key_or_group in GROUPS and o.key_or_group not in (*TECHNIQUE_GROUPS, "experiment")
    ]


def _explain_technique(typed: str, key: str, group: str, path: Sequence[str], config_dir: str | None) -> Exception:
    """The error for ``technique.NAME.SETTING``: unknown technique, technique not chosen, or unknown setting."""
    name = path[0]
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    options = [p.stem for folder in folders for p in (folder / "technique").glob("[a-z]*.yaml")]
    if group != "technique":
        return UnknownName(
            f"{typed}: the settings of {group} are those of its techniques. Type technique.{'.'.join(path)}=VALUE."
        )
    if name not in options:
        return UnknownName(f"{typed}: there is no technique {name}. {suggest(name, options)}")
    chosen = compose([f"technique={name}"], config_dir).technique[name]
    node = {str(k): v for k, v in chosen.items_ex(resolve=False) if not str(k).startswith("_")}
    if path[1] in node:
        return ValueError(
            f"{typed} would have no effect: {name} is not among the techniques. "
            f"Type technique={name}, or technique=...+{name} if there are others."
        )
    return UnknownName(f"{typed}: {key} is no setting. {suggest_settings(path[1], f'technique.{name}', node)}")
