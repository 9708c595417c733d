"""Configurations of jobs: composed by Hydra once for each set of choices, the values patched in.

Hydra takes about 0.1 s to compose a configuration, nearly all of it for the defaults list. The jobs of a sweep mostly
share theirs, and differ in values. Values are applied by Hydra's own function to a copy, so that the result is what
Hydra would have composed.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mltricks.sweep.job import Job

TRIAL = "hydra.job.env_set.MLTRICKS_TRIAL"
"""The override that tells a job how to report."""
PATCHED = ("hydra.job.env_set.", "hydra.sweep.subdir")
"""Settings of Hydra itself that may differ from job to job without composing anew."""
NUM, WORD = 918273645, "918273645-marker"
"""Stand in a record for what differs from job to job."""


class Composer:
    """Composes the jobs of a sweep.

    Args:
        config_loader: Hydra's.
        config: of the sweep.
    """

    def __init__(self, config_loader: Any, config: Any):
        self.loader, self.config = config_loader, config
        self.bases: dict[tuple[str, ...], Base] = {}
        self.parsed: dict[str, Any] = {}
        self.groups: dict[str, bool] = {}

    def job(self, num: int, overrides: Sequence[str]) -> Job:
        """Compose a job.

        Args:
            num: its number.
            overrides: that make it.

        Raises:
            HydraException: an override cannot be applied.
            ValueError: a value that must be given is missing.
        """
        parsed = [self.parse(text) for text in overrides]
        own = [o for o in parsed if o.is_hydra_override()]
        in_place = all(o.key_or_group.startswith(PATCHED) for o in own)
        values = [o for o in parsed if (in_place if o.is_hydra_override() else self.is_value(o))]
        base = self.base([o.input_line for o in parsed if o not in values])
        task = [o.input_line for o in parsed if not o.is_hydra_override()]
        recipe = Recipe(base, values, num, task)
        trial = next((str(o.value()) for o in own if o.key_or_group == TRIAL), "")
        if base.is_plain and not own and not any("${" in o.input_line for o in values):
            cfg = base.resolved(recipe.task_config(), recipe.touched)
            return Job(num, task, cfg, Path(base.directory, str(num)), recipe, trial)
        with recipe.in_place() as config:
            cfg = everything_resolved(recipe.task_config())
            folder = Path(os.path.abspath(os.path.join(config.hydra.sweep.dir, config.hydra.sweep.subdir)))
        return Job(num, task, cfg, folder, recipe, trial)

    def parse(self, text: str) -> Any:
        """An override as Hydra reads it; most are shared by many jobs."""
        if text not in self.parsed:
            from hydra.core.override_parser.overrides_parser import OverridesParser

            self.parsed[text] = OverridesParser.create().parse_override(text)
        return self.parsed[text]

    def is_value(self, override: Any) -> bool:
        """Whether an override sets, adds or deletes a value and has no say in the defaults list."""
        key = override.key_or_group
        if override.is_sweep_override() or override.package is not None or "/" in key:
            return False
        if override.is_delete() and "." not in key:
            return False
        if key not in self.groups:
            self.groups[key] = bool(self.loader.get_group_options(key, None))
        return not self.groups[key]

    def base(self, choices: list[str]) -> Base:
        """What Hydra composes from the overrides that are no values."""
        key = tuple(choices)
        if key not in self.bases:
            composed = self.loader.load_sweep_config(self.config, choices)
            self.bases[key] = Base(composed, type(self.loader)._apply_overrides_to_config)
        return self.bases[key]


class Base:
    """A composed configuration that jobs are patched from.

    Args:
        composed: by Hydra.
        apply: Hydra's function that applies overrides to a configuration in place.
    """

    def __init__(self, composed: Any, apply: Any):
        from omegaconf import OmegaConf, open_dict

        self.apply = apply
        self.hydra_overrides = len(composed.hydra.overrides.hydra)
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
        self.is_plain = self.is_plain and not env_set and not any("${hydra" in text for text in self.text.values())
        self.linked = {key for key, text in self.text.items() if "${" in text}
        self.sections: dict[str, bytes] = {}

    def resolved(self, config: Any, touched: set[str]) -> dict[str, Any]:
        """A job's configuration as nested dicts; sections that no override touches are resolved once for all jobs."""
        cfg = {}
        for key in map(str, config):
            if key in touched or key in self.linked or key not in self.text:
                cfg[key] = resolve_section(config, key)
                continue
            if key not in self.sections:
                self.sections[key] = pickle.dumps(resolve_section(config, key), -1)
            cfg[key] = pickle.loads(self.sections[key])
        return cfg


@dataclass
class Recipe:
    """How the configuration of a job is made again, without Hydra; small, and can be sent to another process.

    Attributes:
        base: what it is patched from.
        values: the overrides that are patched in.
        num: number of the job.
        overrides: all of the job's, without those of ``hydra.*``, for the record.
    """

    base: Base
    values: list[Any]
    num: int
    overrides: list[str]

    @cached_property
    def touched(self) -> set[str]:
        """The keys at the top of the configuration that values are set under."""
        return {re.split(r"[.\[]", o.key_or_group)[0] for o in self.values}

    def config(self, folder: Path | None = None) -> Any:
        """The whole configuration, with the node ``hydra``, as Hydra gives it to callbacks."""
        from omegaconf import OmegaConf

        config = pickle.loads(self.base.full)
        self.base.apply(self.values, config)
        hydra = config.hydra
        hydra.job.num, hydra.job.id = self.num, str(self.num)
        hydra.overrides.task = self.overrides
        for override in self.values:
            if override.is_hydra_override():
                hydra.overrides.hydra.append(override.input_line)
        if folder is not None:
            hydra.runtime.output_dir = str(folder)
        OmegaConf.set_readonly(hydra, True)
        return config

    def task_config(self) -> Any:
        """The configuration without the node ``hydra``, as Hydra gives it to the task."""
        config = pickle.loads(self.base.task)
        self.base.apply([o for o in self.values if not o.is_hydra_override()], config)
        return config

    @contextmanager
    def in_place(self) -> Iterator[Any]:
        """Inside this block Hydra's configuration is this job's, and its environment variables are set."""
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
        """The node ``hydra`` alone, as Hydra hands it back with the result of a job."""
        from omegaconf import OmegaConf

        return OmegaConf.masked_copy(self.config(folder), "hydra")

    @property
    def changes_folder(self) -> bool:
        """Whether the job works in its output folder."""
        return self.base.chdir

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that are this job's own, beside the one by which it reports to a study."""
        own = [o for o in self.values if o.is_hydra_override() and o.key_or_group != TRIAL]
        return tuple(sorted(o.input_line for o in own))

    def record(self, config: Any, task: Any, folder: Path) -> dict[str, str]:
        """Hydra's record of the job, as the content of its files.

        Args:
            config: what ``config(folder)`` gave.
            task: what ``task_config()`` gave.
            folder: output folder of the job.
        """
        from omegaconf import OmegaConf

        sections = [
            section_text(task, key) if key in self.touched or key not in self.base.text else self.base.text[key]
            for key in map(str, task)
        ]
        overrides = OmegaConf.to_yaml(OmegaConf.create(self.overrides))
        if self.base.resolves_variables or any(o.is_hydra_override() for o in self.values):
            hydra = OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra"))
        else:
            hydra = self._hydra_text(overrides, folder)
        return {"config.yaml": "".join(sections), "hydra.yaml": hydra, "overrides.yaml": overrides}

    def _hydra_text(self, overrides: str, folder: Path) -> str:
        from omegaconf import OmegaConf

        quoted = OmegaConf.to_yaml(OmegaConf.create([str(self.num), str(folder)])).splitlines()
        number, path = (line[2:] for line in quoted[:2])
        text = self.base.hydra_text.replace(f"{WORD}id", number).replace(f"{WORD}folder", path)
        task = "".join(f"    {line}\n" for line in overrides.splitlines())
        if not self.overrides:
            return text.replace(f"\n    - {WORD}task\n", " []\n").replace(str(NUM), str(self.num))
        return text.replace(f"    - {WORD}task\n", task).replace(str(NUM), str(self.num))


def _directory(composed: Any) -> tuple[str, bool]:
    """The sweep's folder, and whether a job's is simply its number in there."""
    from omegaconf import OmegaConf

    raw = OmegaConf.to_container(composed.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    simple = raw["subdir"] == "${hydra.job.num}" and "${" not in re.sub(r"\$\{now:[^}]*\}", "", raw["dir"])
    return (os.path.abspath(str(composed.hydra.sweep.dir)) if simple else ""), simple


def section_text(config: Any, key: str) -> str:
    """One key of a configuration as YAML, interpolations as they are."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.masked_copy(config, key))


def resolve_section(config: Any, key: str) -> Any:
    """The value of one key of a configuration, as nested dicts and lists.

    Raises:
        ValueError: a value that must be given is missing.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf

    try:
        node = config[key]
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key} is missing. Type {error.full_key}=VALUE.") from error


def everything_resolved(config: Any) -> dict[str, Any]:
    """A configuration as nested dicts and lists."""
    return {str(key): resolve_section(config, str(key)) for key in config}
