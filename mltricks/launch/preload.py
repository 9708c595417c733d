"""The imports of the server that forks workers: torch, and all modules of this package that training uses.

Nothing here may start a thread or touch a GPU: a process that has done so cannot be forked.
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
gc.freeze()  # exempt these objects: the garbage collector of a worker writes to them, which would copy the shared pages
