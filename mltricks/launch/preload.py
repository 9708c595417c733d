"""What the server of workers imports before it forks any: torch, and all of this package that training uses.

Nothing here may start a thread or touch a GPU, since a process that has done so cannot be forked.
"""

import gc
import importlib
import pkgutil

import hydra.core.utils  # noqa: F401
import safetensors.torch  # noqa: F401
import torch  # noqa: F401

PACKAGES = (
    "data",
    "functional",
    "inits",
    "models",
    "objectives",
    "observers",
    "optim",
    "samplers",
    "schedules",
    "techniques",
)

importlib.import_module("mltricks.train")
for package in PACKAGES:
    path = importlib.import_module(f"mltricks.{package}").__path__
    for module in pkgutil.iter_modules(path, f"mltricks.{package}."):
        importlib.import_module(module.name)

gc.collect()
gc.freeze()  # what is here stays: the collector of a worker that looked at it would copy every page it lies on
