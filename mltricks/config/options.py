"""The folder of the options, and the list of groups."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

GROUPS = {
    "model": "the network",
    "data": "the data set, and how it is split",
    "optim": "the optimiser",
    "scheduler": "how the learning rate changes over the run",
    "sampler": "the order in which samples are drawn",
    "augment": "changes of the training samples",
    "regularizer": "against overfitting",
    "technique": "all else that changes a step; options combine freely",
    "objective": "the loss and the metrics",
    "init": "the initial weights, also from another run",
    "engine": "how a step is executed, as a CUDA graph for one",
    "precision": "the number format of the computation",
    "tracker": "where curves go besides files: W&B, TensorBoard",
    "experiment": "recorded runs to repeat, each with its result",
    "job": "what to do: train, evaluate, predict, explain, ...",
}
"""The groups of the configuration, with what their options are."""
SWEEPS = {
    "hydra/sweeper": "how -m searches: grid, study, ablation, recipe",
    "hydra/launcher": "where the jobs of -m run",
}
"""The groups of Hydra that hold options of ours."""
TECHNIQUE_GROUPS = ("augment", "regularizer", "technique")
"""Groups whose options add techniques to the step; several options of one can be chosen."""


def conf_dir() -> Path:
    """The folder ``conf``: inside an installed package, or beside the package in a clone."""
    here = Path(__file__).resolve().parent.parent
    inside = here / "conf"
    return inside if inside.is_dir() else here.parent / "conf"


def option_folders() -> list[Path]:
    """The folders that hold options: ``conf``, and those that the user gave to a command."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return [conf_dir()]
    sources = HydraConfig.get().runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file"]


def option_of(group: str, thing: Any) -> str:
    """The option of a group that creates an object, for messages; a user's own class has its own name.

    Args:
        group: as ``optim``.
        thing: the object, or its class.

    >>> from mltricks.optim.schedule_free import ScheduleFreeSGD
    >>> option_of("optim", ScheduleFreeSGD), option_of("optim", int)
    ('schedule_free_sgd', 'int')
    """
    cls = thing if isinstance(thing, type) else type(thing)
    own = re.compile(rf"^_target_: {re.escape(f'{cls.__module__}.{cls.__qualname__}')}$", re.MULTILINE)
    files = sorted((conf_dir() / group).glob("*.yaml"))
    return next((file.stem for file in files if own.search(file.read_text(encoding="utf-8"))), cls.__name__)


def called(node: dict[str, Any]) -> str:
    """The word by which an option is known: its own name, the file of a class of ours, or the name of a user's class.

    >>> called({"_target_": "mltricks.data.digits.Digits"}), called({"_target_": "mine.nets.Net"})
    ('digits', 'Net')
    >>> called({"_target_": "mltricks.engine.Traced"})  # one file for several options
    'traced'
    """
    module, _, name = node["_target_"].rpartition(".")
    package, *path = module.split(".")
    own = name if package != "mltricks" else path[-1] if len(path) > 1 else name.lower()
    return str(node.get("name") or own)
