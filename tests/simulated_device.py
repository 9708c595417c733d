"""``pytest --device simulated``: ``device=auto`` is a simulated accelerator with tensors in the memory of the CPU.

It finds tensors on the wrong device without a GPU; ``simulated_device.cpp`` says how it differs from a GPU. It is
built once, in half a minute, with a C++ compiler and ninja.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils.cpp_extension import load

NAME = "simulated"


def install() -> None:
    """Build the device, register it with PyTorch, and let ``device=auto`` find it in this process."""
    load("simulated_device", [str(Path(__file__).with_suffix(".cpp"))], extra_cflags=["-O1"])
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, device_module())
    torch.utils.generate_methods_for_privateuse1_backend()

    import mltricks.process.device as module

    choose = module.choose_device

    def simulated(name: str) -> torch.device:
        return torch.device(NAME, 0) if name == "auto" else choose(name)

    for known in [m for m in sys.modules.values() if getattr(m, "choose_device", None) is choose]:
        known.choose_device = simulated


def device_module() -> Any:
    """``torch.simulated``, the functions that PyTorch calls on a device's module. The CPU's generator draws for it."""
    module: Any = ModuleType(f"torch.{NAME}")
    module.is_available = module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.manual_seed_all = module.manual_seed = lambda seed: None
    module.get_rng_state = lambda device=None: torch.default_generator.get_state()
    module.set_rng_state = lambda state, device=None: None
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    return module
