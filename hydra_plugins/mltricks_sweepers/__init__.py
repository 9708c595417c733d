"""Our sweepers, as Hydra finds them; each hands over to the ``sweep`` function of its own module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


class _Delegate(Sweeper):
    """Keeps what Hydra gives and calls ``<module>.sweep(settings, place, arguments)``."""

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
    """Every combination of the values typed."""

    name = "grid"
    module = "mltricks.sweep.grid"


class StudySweeper(_Delegate):
    """Trials chosen by a sampler, kept in a study."""

    name = "study"
    module = "mltricks.study.sweep"


class RecipeSweeper(_Delegate):
    """The seven steps of tuning."""

    name = "recipe"
    module = "mltricks.recipe.sweep"


class AblationSweeper(_Delegate):
    """What each technique is worth."""

    name = "ablation"
    module = "mltricks.ablation.sweep"
