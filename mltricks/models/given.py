"""A model that a Python program gave as an object: what the configuration says instead of a class to construct."""

from __future__ import annotations

from typing import Any

from torch import nn


class Given(nn.Module):
    """Stands in ``config.yaml`` for a module given to ``mltricks.train(cfg, model=module)``.

    Args:
        name: the class of the module.

    Raises:
        ValueError: always, because no configuration can make the object again.
    """

    def __init__(self, name: str):
        super().__init__()
        raise ValueError(
            f"the model of this run is an object of {name} that a Python program gave, so no command can make it "
            "again. Give it in Python: mltricks.load(DIR, model=module) to predict, and mltricks.train(cfg, "
            "model=module, folder=DIR, resume=True) to continue. To use commands, write model=custom model._target_=..."
        )


def node_of(module: Any) -> dict[str, Any]:
    """The configuration node that stands for a given module.

    Raises:
        ValueError: it is no module.
    """
    if isinstance(module, type):
        raise ValueError(f"model is the class {module.__name__}. Give an object of it: model={module.__name__}(...).")
    if not isinstance(module, nn.Module):
        raise ValueError(f"model is a {type(module).__name__}. Give a torch.nn.Module.")
    cls = type(module)
    return {"_target_": f"{__name__}.{Given.__name__}", "name": f"{cls.__module__}.{cls.__qualname__}"}
