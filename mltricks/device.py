"""Where a run is computed."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """The device that ``device=`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name} cannot be used: {reason}. Type device=auto or device=cpu.") from error
    return device
