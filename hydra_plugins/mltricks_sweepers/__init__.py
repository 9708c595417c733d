"""Our sweepers, as Hydra finds them; each hands over to the module of the same name in ``mltricks.sweep``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


class _Delegate(Sweeper):
    """Keeps what Hydra gives and calls ``mltricks.sweep.<module>.sweep(settings, place, arguments)``."""

    module: str

    def __init__(self, **settings: Any):
        self.settings = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in settings.items()}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.given = (config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        from mltricks.sweep.runner import Place, conduct

        work = import_module(f"mltricks.sweep.{self.module}")
        return conduct(work.sweep, self.settings, Place(*self.given, sweeper=self.module), arguments)


class GridSweeper(_Delegate):
    """Every combination of the values typed."""

    module = "grid"


class StudySweeper(_Delegate):
    """Trials chosen by a sampler, kept in a study."""

    module = "study"


class RecipeSweeper(_Delegate):
    """The seven steps of tuning."""

    module = "recipe"


class AblationSweeper(_Delegate):
    """What each technique is worth."""

    module = "ablation"
