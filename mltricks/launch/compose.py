"""Configurations of jobs: Hydra composes each set of options once, and the values of each job are patched in.

Hydra takes about 0.1 s to compose a configuration, nearly all of it for the defaults list. Most jobs of a sweep share
one defaults list and differ only in values.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.launch.job import Job
from mltricks.launch.patched import TRIAL, Base, Patch, everything_resolved

PATCHED = ("hydra.job.env_set.", "hydra.sweep.subdir")
"""Settings of Hydra itself that can be patched, without composing again."""

MOST_PARSED = 2000
"""Maximum number of parsed overrides kept in memory. The cache is then cleared; shared overrides soon return."""


class Composer:
    """Composes the jobs of a sweep.

    Args:
        config_loader: Hydra's config loader.
        config: configuration of the sweep.
    """

    def __init__(self, config_loader: Any, config: Any):
        self.loader, self.config = config_loader, config
        self.bases: dict[tuple[str, ...], Base] = {}
        self.parsed: dict[str, Any] = {}
        self.groups: dict[str, bool] = {}

    def job(self, num: int, overrides: Sequence[str]) -> Job:
        """Compose a job.

        Args:
            num: number of the job.
            overrides: the overrides that define it.

        Raises:
            HydraException: an override cannot be applied.
            ValueError: a mandatory value is missing.
        """
        patch = self.patch(num, overrides)
        base, task = patch.base, patch.overrides
        trial = next((str(o.value()) for o in map(self.parse, overrides) if o.key_or_group == TRIAL), "")
        if base.is_plain and patch.token is not None and not any("${" in o.input_line for o in patch.values):
            cfg = base.resolved(patch.task_config(), patch.touched)
            return Job(num, task, cfg, Path(base.directory, str(num)), patch, trial)
        with patch.in_place() as config:
            cfg = everything_resolved(patch.task_config())
            folder = Path(os.path.abspath(os.path.join(config.hydra.sweep.dir, config.hydra.sweep.subdir)))
        return Job(num, task, cfg, folder, patch, trial)

    def patch(self, num: int, overrides: Sequence[str]) -> Patch:
        """Return the patch that makes a job's configuration; mandatory values may still be missing in it.

        Args:
            num: number of the job.
            overrides: the overrides that define it.
        """
        parsed = [self.parse(text) for text in overrides]
        in_place = all(o.key_or_group.startswith(PATCHED) for o in parsed if o.is_hydra_override())
        values = [o for o in parsed if (in_place if o.is_hydra_override() else self.is_value(o))]
        base = self.base([o.input_line for o in parsed if o not in values])
        return Patch(base, values, num, [o.input_line for o in parsed if not o.is_hydra_override()])

    def parse(self, text: str) -> Any:
        """Parse an override with Hydra's grammar, cached: most overrides are shared by many jobs."""
        if text not in self.parsed:
            from hydra.core.override_parser.overrides_parser import OverridesParser

            if len(self.parsed) >= MOST_PARSED:
                self.parsed.clear()
            self.parsed[text] = OverridesParser.create().parse_override(text)
        return self.parsed[text]

    def is_value(self, override: Any) -> bool:
        """Whether an override sets, adds or deletes a value and leaves the defaults list alone."""
        key = override.key_or_group
        if override.is_sweep_override() or override.package is not None or "/" in key:
            return False
        if override.is_delete() and "." not in key:
            return False
        if key not in self.groups:
            self.groups[key] = bool(self.loader.get_group_options(key, None))
        return not self.groups[key]

    def base(self, choices: list[str]) -> Base:
        """The configuration that Hydra composes from the overrides that choose options."""
        key = tuple(choices)
        if key not in self.bases:
            composed = self.loader.load_sweep_config(self.config, choices)
            self.bases[key] = Base(composed, type(self.loader)._apply_overrides_to_config)
        return self.bases[key]
