"""Patches: make a job's configuration from a composed one and the job's values, without composing again.

Hydra's own function applies the values to a copy, so the result equals the configuration that Hydra would compose.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

VARIABLE = "MLTRICKS_TRIAL"
TRIAL = f"hydra.job.env_set.{VARIABLE}"
"""The override that gives a job its token, with which it reports to a study."""
TOKEN = re.compile(rf"{re.escape(TRIAL)}=(eyJ[\w-]+)")
"""Matches that override with an encoded ``Token``, which needs no quotes in Hydra's grammar or YAML."""
NUM, WORD = 918273645, "918273546-marker"
"""Placeholders in a record's text for the values that differ from job to job."""
SIMPLE = re.compile(r"/[\w./+@=-]*")
"""Matches a path that YAML writes unquoted and on one line."""


class Base:
    """A composed configuration from which jobs are patched.

    Args:
        composed: the configuration composed by Hydra.
        apply: Hydra's function that applies overrides to a configuration in place.
    """

    def __init__(self, composed: Any, apply: Any):
        from omegaconf import OmegaConf, open_dict

        self.apply = apply
        with open_dict(composed):
            composed.hydra.job.num, composed.hydra.job.id = NUM, WORD + "id"
            composed.hydra.runtime.output_dir = WORD + "folder"
            composed.hydra.overrides.task = [WORD + "task"]
        self.full = pickle.dumps(composed, -1)
        self.directory, self.is_plain = _directory(composed)
        self.chdir = bool(composed.hydra.job.chdir)
        raw = OmegaConf.to_container(composed.hydra.job.env_set, resolve=False)
        assert isinstance(raw, dict)
        self.resolves_variables = any("${" in str(value) for value in raw.values())
        env_set = [value for value in raw.values() if value != ""]
        self.hydra_text = OmegaConf.to_yaml(OmegaConf.masked_copy(composed, "hydra"))
        with open_dict(composed):
            del composed["hydra"]
        self.task = pickle.dumps(composed, -1)
        self.text = {str(key): section_text(composed, str(key)) for key in composed}
        odd = ("${hydra", VARIABLE)  # values that depend on the job, not only on its overrides
        self.is_plain = self.is_plain and not env_set and not any(o in text for text in self.text.values() for o in odd)
        self.linked = {key for key, text in self.text.items() if "${" in text}
        self.sections: dict[tuple[str, ...], bytes] = {}

    @cached_property
    def hydra_text_of_trial(self) -> str:
        """Like ``hydra_text``, for a job that has a token."""
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from omegaconf import OmegaConf

        config, override = pickle.loads(self.full), f"{TRIAL}={WORD}token"
        self.apply(OverridesParser.create().parse_overrides([override]), config)
        config.hydra.overrides.hydra.append(override)
        return OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra"))

    def resolved(self, config: Any, touched: set[str]) -> dict[str, Any]:
        """Resolve a job's configuration to nested dicts; sections without overrides are resolved once for all jobs."""
        own = touched | self.linked | (set(map(str, config)) - self.text.keys())
        kind = tuple(sorted(touched))
        if kind not in self.sections:
            shared = {key: resolve_section(config, key) for key in map(str, config) if key not in own}
            self.sections[kind] = pickle.dumps(shared, -1)
        found = pickle.loads(self.sections[kind])
        return {key: found[key] if key in found else resolve_section(config, key) for key in map(str, config)}


@dataclass
class Patch:
    """Makes the configuration of a job without Hydra; small, so that it can be sent to another process.

    Attributes:
        base: the composed configuration to patch.
        values: the overrides to patch in.
        num: number of the job.
        overrides: all overrides of the job without those of ``hydra.*``, for Hydra's record.
    """

    base: Base
    values: list[Any]
    num: int
    overrides: list[str]

    @cached_property
    def touched(self) -> set[str]:
        """The top-level keys under which values are set."""
        return {re.split(r"[.\[]", o.key_or_group)[0] for o in self.values}

    @property
    def own(self) -> list[Any]:
        """The values that are settings of Hydra itself."""
        return [o for o in self.values if o.is_hydra_override()]

    @cached_property
    def token(self) -> str | None:
        """The job's token for a study; empty outside a study; ``None`` if the job also has other Hydra settings."""
        own = [TOKEN.fullmatch(o.input_line) for o in self.own]
        return (own[0].group(1) if own[0] and len(own) == 1 else None) if own else ""

    def config(self, folder: Path | None = None) -> Any:
        """Make the whole configuration, with the node ``hydra``, as Hydra passes it to callbacks."""
        from omegaconf import OmegaConf

        config = pickle.loads(self.base.full)
        self.base.apply(self.values, config)
        hydra = config.hydra
        hydra.job.num, hydra.job.id = self.num, str(self.num)
        hydra.overrides.task = self.overrides
        for override in self.own:
            hydra.overrides.hydra.append(override.input_line)
        if folder is not None:
            hydra.runtime.output_dir = str(folder)
        OmegaConf.set_readonly(hydra, True)
        return config

    def task_config(self) -> Any:
        """Make the configuration without the node ``hydra``, as Hydra passes it to the task."""
        config = pickle.loads(self.base.task)
        self.base.apply([o for o in self.values if not o.is_hydra_override()], config)
        return config

    @contextmanager
    def in_place(self) -> Iterator[Any]:
        """A context with this job as Hydra's current configuration, and with its environment variables."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.core.utils import env_override

        config, before = self.config(), HydraConfig.instance().cfg
        HydraConfig.instance().cfg = config
        try:
            with env_override({k: str(v) for k, v in config.hydra.job.env_set.items()}):
                yield config
        finally:
            HydraConfig.instance().cfg = before

    def hydra_config(self, folder: Path) -> Any:
        """Make the node ``hydra`` alone, as Hydra returns it with the result of a job."""
        from omegaconf import OmegaConf

        return OmegaConf.masked_copy(self.config(folder), "hydra")

    @property
    def changes_folder(self) -> bool:
        """Whether the job changes the working directory to its output folder."""
        return self.base.chdir

    @property
    def variables(self) -> tuple[str, ...]:
        """The job's own Hydra overrides, such as environment variables, except for its token."""
        return tuple(sorted(o.input_line for o in self.own if o.key_or_group != TRIAL))

    def record(self, config: Any, task: Any, folder: Path) -> dict[str, str]:
        """The content of the files of Hydra's record of the job, by name.

        Args:
            config: the result of ``config(folder)``.
            task: the result of ``task_config()``.
            folder: output folder of the job.
        """
        from omegaconf import OmegaConf

        sections = [
            section_text(task, key) if key in self.touched or key not in self.base.text else self.base.text[key]
            for key in map(str, task)
        ]
        overrides = OmegaConf.to_yaml(OmegaConf.create(self.overrides))
        if self.base.resolves_variables or self.token is None or not SIMPLE.fullmatch(str(folder)):
            hydra = OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra"))
        else:
            hydra = self._hydra_text(self.token, overrides, folder)
        return {"config.yaml": "".join(sections), "hydra.yaml": hydra, "overrides.yaml": overrides}

    def _hydra_text(self, token: str, overrides: str, folder: Path) -> str:
        text = self.base.hydra_text_of_trial if token else self.base.hydra_text
        text = text.replace(str(NUM), str(self.num)).replace(f"{WORD}id", f"'{self.num}'")
        text = text.replace(f"{WORD}token", token).replace(f"{WORD}folder", str(folder))
        task = "".join(f"    {line}\n" for line in overrides.splitlines())
        if not self.overrides:
            return text.replace(f"\n    - {WORD}task\n", " []\n")
        return text.replace(f"    - {WORD}task\n", task)


def _directory(composed: Any) -> tuple[str, bool]:
    """The sweep's folder, and whether the folder of a job is named by its number alone."""
    from omegaconf import OmegaConf

    raw = OmegaConf.to_container(composed.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    simple = raw["subdir"] == "${hydra.job.num}" and "${" not in re.sub(r"\$\{now:[^}]*\}", "", raw["dir"])
    return (os.path.abspath(str(composed.hydra.sweep.dir)) if simple else ""), simple


def section_text(config: Any, key: str) -> str:
    """One key of a configuration as YAML, interpolations unresolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.masked_copy(config, key))


def resolve_section(config: Any, key: str) -> Any:
    """Resolve one key of a configuration to nested dicts and lists.

    Raises:
        ValueError: a mandatory value is missing.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf

    try:
        node = config[key]
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key} is missing. Type {error.full_key}=VALUE.") from error


def everything_resolved(config: Any) -> dict[str, Any]:
    """Resolve a configuration to nested dicts and lists."""
    return {str(key): resolve_section(config, str(key)) for key in config}
