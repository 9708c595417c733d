"""Our sweepers, where Hydra looks for plugins; each delegates to the function ``sweep`` of its module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


class _Delegate(Sweeper):
    """Stores Hydra's objects and calls ``<module>.sweep(settings, place, arguments)``."""

    name: str
    module: str

    def __init__(self, **settings: Any):
        self.settings = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in settings.items()}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.given = (config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        from mltricks.sweep.runner import Place, conduct

        work = import_module(self.module)
        return conduct(work.sweep, self.settings, Place(*self.given, sweeper=self.name), arguments)


class GridSweeper(_Delegate):
    """Runs every combination of the given values."""

    name = "grid"
    module = "mltricks.sweep.grid"


class StudySweeper(_Delegate):
    """Runs trials that a searcher suggests, and keeps them in a study."""

    name = "study"
    module = "mltricks.study.sweep"


class RecipeSweeper(_Delegate):
    """Runs the seven steps of tuning."""

    name = "recipe"
    module = "mltricks.recipe.sweep"


class AblationSweeper(_Delegate):
    """Measures the effect of each technique."""

    name = "ablation"
    module = "mltricks.ablation.sweep"
