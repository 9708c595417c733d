"""Our launcher, where Hydra looks for plugins; it delegates to ``mltricks.launch.launch``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher


class LocalLauncher(Launcher):
    """Runs jobs on this machine.

    Args:
        settings: the settings in ``conf/hydra/launcher/local.yaml``.
    """

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from mltricks.launch.compose import Composer

        self.context, self.task = hydra_context, task_function
        self.composer = Composer(hydra_context.config_loader, config)  # kept, as some sweepers launch many batches

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        return self.launch_numbered(list(enumerate(job_overrides, initial_job_idx)))

    def launch_numbered(self, jobs: Sequence[tuple[int, Sequence[str]]]) -> Any:
        """Like ``launch``, for any job numbers."""
        from mltricks.launch.launch import launch

        return launch(self.settings, self.composer, self.context, self.task, jobs)
